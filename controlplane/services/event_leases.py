"""Events (the kind) live an hour: they hang on leases that many of them share, so that a flood of events is no flood
of leases."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from controlplane.store.endpoints import LeaseLost
from controlplane.store.etcd import Etcd
from controlplane.store.leases import Lease

# Kubernetes' --event-ttl.
_EVENT_SECONDS: Final = 3600
# A new lease this often: an event lives up to so much longer than an hour.
_SHARED_SECONDS: Final = 300


class EventLeases:
    def __init__(self, etcd: Etcd, clock: Callable[[], float]) -> None:
        self._etcd = etcd
        self._clock = clock
        self._current: Lease | None = None
        self._granting = asyncio.Lock()

    async def lease_id(self) -> int:
        """A lease that lives for at least an hour from now."""
        if self._current is None or self._current.remaining < _EVENT_SECONDS:
            async with self._granting:
                if self._current is None or self._current.remaining < _EVENT_SECONDS:
                    self._current = await self._etcd.grant(_EVENT_SECONDS + _SHARED_SECONDS)
        return self._current.id

    def lost(self, error: LeaseLost) -> None:
        """etcd no longer knows the lease: somebody revoked it."""
        self._current = None
