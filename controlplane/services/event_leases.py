"""Events (the kind) live an hour: they hang on leases that many of them share, so that a flood of events is no flood
of leases.

All replicas share them too: a key, itself under the lease, says which one is current. So neither a replica that
restarts every minute nor a large number of replicas makes more than one lease every five minutes.
"""

from __future__ import annotations

import asyncio
from typing import Final

from controlplane.store import keys
from controlplane.store import operations as op
from controlplane.store.etcd import Etcd
from controlplane.store.leases import Lease

# Kubernetes' --event-ttl.
EVENT_SECONDS: Final = 3600
# A new lease this often: an event lives up to so much longer than an hour.
SHARED_SECONDS: Final = 300


class EventLeases:
    def __init__(self, etcd: Etcd, *, event_seconds: int = EVENT_SECONDS, shared_seconds: int = SHARED_SECONDS) -> None:
        self._etcd = etcd
        self._event_seconds = event_seconds
        self._shared_seconds = shared_seconds
        self._current: Lease | None = None
        self._choosing = asyncio.Lock()

    async def lease_id(self) -> int:
        """A lease that lives for at least an hour from now."""
        if not self._lasts(self._current):
            async with self._choosing:
                while not self._lasts(self._current):
                    self._current = await self._choose()
        assert self._current is not None
        return self._current.id

    def lost(self, lease_id: int) -> None:
        """etcd no longer knows that lease: somebody revoked it."""
        if self._current is not None and self._current.id == lease_id:
            self._current = None

    def _lasts(self, lease: Lease | None) -> bool:
        return lease is not None and lease.remaining >= self._event_seconds

    async def _choose(self) -> Lease | None:
        """The lease that another replica made, where it lasts, or else a new one; None: another was first, look again.

        A replica that is killed in here leaves a lease behind that nothing hangs on; it expires.
        """
        found = await self._etcd.get(keys.EVENT_LEASE)
        if found is not None and self._lasts(shared := await self._etcd.adopt(found.lease)):
            return shared
        lease = await self._etcd.grant(self._event_seconds + self._shared_seconds)
        seen = found.mod_revision if found is not None else 0
        made = op.put(keys.EVENT_LEASE, b"", lease.id)
        answer = await self._etcd.txn([op.unchanged(keys.EVENT_LEASE, seen)], [made])
        if answer.succeeded:
            return lease
        await lease.revoke()
        return None
