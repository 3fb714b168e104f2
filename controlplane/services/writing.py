"""The one way in which objects change: decide on what is known, write only if that still holds, else decide again.

What is known is the cache, which may be behind. That costs nothing where the write goes through, because its
transaction compares the object's revision; where it does not, the transaction's answer has the present state. An error
or a no-op that was decided on the cache alone is decided again once the cache is proven fresh: nobody is told that an
object is not there because this replica has not heard of it yet.

A dry run goes the same way to its end: its transaction makes the same compares and writes nothing.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakValueDictionary

import structlog
from google.protobuf.timestamp_pb2 import Timestamp

from controlplane.services import deletion_plan, lifecycle
from controlplane.services.allocation import Allocator, allocates, claims
from controlplane.services.callers import Fence
from controlplane.services.event_leases import EventLeases
from controlplane.store import entries, keys, wire
from controlplane.store import operations as op
from controlplane.store.api import etcd_pb2 as pb
from controlplane.store.cache import Cache
from controlplane.store.commits import Committer, Outcome, Write
from controlplane.store.endpoints import LeaseLost
from controlplane.store.entries import Entry
from podwire import errors, kinds
from podwire.keys import key_of
from podwire.kinds import Kind

log = structlog.get_logger(__name__)

# A write that loses so many races in a row gives up: its caller may try again.
_ATTEMPTS: Final = 16
# Who has lost this many queues up with all others who come to that object: nobody is overtaken for ever.
_LOST_BEFORE_QUEUING: Final = 3
# etcd takes 1.5 MiB in a request; keys, compares and framing need some of it.
OBJECT_BYTES: Final = 1536 * 1024 - 16 * 1024

# The present state, a copy that may be changed -> the next one, or None to remove the object.
Decide = Callable[[Any], Any | None]


@dataclass(frozen=True, slots=True)
class Written:
    """The object as it is sent, whether the write changed anything, and whether the object is gone with it."""

    sent: bytes
    changed: bool = True
    removed: bool = False


@dataclass(frozen=True, slots=True)
class Demands:
    """What a write asks of the rest of the store."""

    fence: Fence | None = None
    # Prefixes of keys that must not exist where the object is removed.
    empty: tuple[bytes, ...] = ()
    # A key and the revision of its last change, which must still be that: of the session that a status comes over.
    standing: tuple[bytes, int] | None = None


class Writer:
    def __init__(
        self,
        cache: Cache,
        committer: Committer,
        allocator: Allocator,
        event_leases: EventLeases,
        *,
        new_uid: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._cache = cache
        self._committer = committer
        self._allocator = allocator
        self._event_leases = event_leases
        self._new_uid = new_uid
        # Objects that several write at once, and the queue of those who have lost a race for one.
        self._contested: WeakValueDictionary[tuple[Kind, str], asyncio.Lock] = WeakValueDictionary()

    async def create(self, kind: Kind, obj: Any, demands: Demands, *, dry_run: bool = False) -> Written:
        """Stores a new object, which is changed in place to what is stored."""
        generated = not obj.metadata.name and bool(obj.metadata.generate_name)
        lifecycle.prepare_new(kind, obj, uid=self._new_uid(), now=now())
        namespace = await self._namespace(obj.metadata.namespace) if kind.namespaced else None
        avoid: set[bytes] = set()
        for _ in range(_ATTEMPTS):
            key = key_of(obj)
            etcd_key = keys.object_key(kind, key)
            # Another attempt allocates anew.
            new = lifecycle.copy_of(obj) if allocates(kind) else obj
            self._allocator.assign(kind, None, new, avoid)
            stored = _encode(kind, key, new)
            taken = [claim.key for claim in claims(kind, new)]
            compares = [op.absent(etcd_key), *map(op.absent, taken), *_compares(demands)]
            if namespace is not None:
                compares.append(op.unchanged(_namespace_key(namespace), namespace.revision))
            owner = f"{kind.singular} {key}".encode()
            write = Write(compares, {etcd_key: stored, **dict.fromkeys(taken, owner)})
            outcome = await self._commit(kind, _checks(write) if dry_run else write)
            if outcome.succeeded:
                if new is not obj:
                    obj.CopyFrom(new)
                return Written(stored if dry_run else wire.stamp(stored, outcome.revision))
            self._refuse_fenced(demands, outcome)
            if etcd_key in outcome.found and generated:
                obj.metadata.name = lifecycle.generated_name(obj.metadata.generate_name)
                continue
            if etcd_key in outcome.found:
                raise _already_exists(kind, key)
            if namespace is not None:
                namespace = _as_found(namespace, outcome)
            avoid.update(claim for claim in taken if claim in outcome.found)
        raise errors.Conflict(f"{lifecycle.describe(kind, key)} could not be created: too many others write at once")

    async def change(
        self,
        kind: Kind,
        key: str,
        decide: Decide,
        demands: Demands,
        *,
        by_client: bool = False,
        dry_run: bool = False,
    ) -> Written:
        """Replaces or removes an object, by `decide`, which is called again whenever the object has changed.

        A marked object that nothing holds any more in its next state is removed, in the transaction of that change.

        What comes `by_client` is validated as a whole and gets the addresses and ports that it does not name; a change
        of status, or one that the server makes itself, is not.
        """
        async with AsyncExitStack() as turn:
            queue = self._contested.get((kind, key))
            if queue is not None:
                await turn.enter_async_context(queue)
            return await self._change(kind, key, decide, demands, turn if queue is None else None, by_client, dry_run)

    async def _change(
        self,
        kind: Kind,
        key: str,
        decide: Decide,
        demands: Demands,
        turn: AsyncExitStack | None,
        by_client: bool,
        dry_run: bool,
    ) -> Written:
        """`turn` is where a place in the object's queue is held; None: it is held already."""
        entry = self._cache.of(kind).entries.get(key)
        proven = False
        avoid: set[bytes] = set()
        for attempt in range(_ATTEMPTS):
            if attempt == _LOST_BEFORE_QUEUING and turn is not None:
                await turn.enter_async_context(self._contested.setdefault((kind, key), asyncio.Lock()))
            try:
                if entry is None:
                    raise lifecycle.not_found(kind, key)
                old = entry.message()
                new = decide(entry.message())
                if by_client and new is not None:
                    self._allocator.assign(kind, old, new, avoid)
                    lifecycle.finish_update(kind, old, new)
            except errors.PodwireError:
                if proven:
                    raise
                entry, proven = await self._proven(kind, key), True
                continue
            stored = _encode(kind, key, new) if new is not None else b""
            if stored and stored == wire.encode(old):
                if proven:
                    return Written(entry.sent, changed=False)
                entry, proven = await self._proven(kind, key), True
                continue
            removed = new is None or deletion_plan.is_over(new)
            write = self._write(kind, entry, old, None if removed else new, stored, demands)
            outcome = await self._commit(kind, _checks(write) if dry_run else write)
            if outcome.succeeded:
                revision = entry.revision if dry_run else outcome.revision
                return Written(_sent(kind, entry, stored, revision), removed=removed)
            self._refuse_fenced(demands, outcome)
            if new is None and demands.empty and _same(entry, outcome):
                raise errors.PreconditionFailed(f"{lifecycle.describe(kind, key)} is not empty yet")
            avoid.update(compare.key for compare in write.compares if compare.key in outcome.found)
            entry, proven = _found(kind, key, outcome), True
        raise errors.Conflict(f"{lifecycle.describe(kind, key)} could not be changed: too many others write at once")

    def uid_of(self, kind: Kind, key: str) -> str:
        """The uid of the object that the cache has under `key`; empty where there is none."""
        entry = self._cache.of(kind).entries.get(key)
        uid: str = entry.message().metadata.uid if entry is not None else ""
        return uid

    def _write(self, kind: Kind, entry: Entry, old: Any, new: Any | None, stored: bytes, demands: Demands) -> Write:
        etcd_key = keys.object_key(kind, entry.key)
        before = [claim.key for claim in claims(kind, old)]
        after = [claim.key for claim in claims(kind, new)] if new is not None else []
        gained = [claim for claim in after if claim not in before]
        compares = [op.unchanged(etcd_key, entry.revision), *map(op.absent, gained), *_compares(demands)]
        if new is None:
            compares += map(op.all_absent, demands.empty)
        lost = [claim for claim in before if claim not in after]
        if new is None:
            return Write(compares, deletes=[etcd_key, *lost])
        owner = f"{kind.singular} {entry.key}".encode()
        return Write(compares, {etcd_key: stored, **dict.fromkeys(gained, owner)}, lost)

    async def _commit(self, kind: Kind, write: Write) -> Outcome:
        if kind is not kinds.EVENT or not write.puts:
            return await self._committer.commit(write)
        for _ in range(2):
            write.lease = await self._event_leases.lease_id()
            try:
                return await self._committer.commit(write)
            except LeaseLost:
                self._event_leases.lost(write.lease)
        raise errors.Unavailable("etcd loses the leases of events: try again")

    async def _proven(self, kind: Kind, key: str) -> Entry | None:
        await self._cache.wait_fresh()
        return self._cache.of(kind).entries.get(key)

    async def _namespace(self, name: str) -> Entry:
        """The namespace, which takes new objects."""
        entry = self._cache.of(kinds.NAMESPACE).entries.get(name)
        if entry is None or entry.fields["status.phase"] == "Terminating":
            entry = await self._proven(kinds.NAMESPACE, name)
        return _active(name, entry)

    def _refuse_fenced(self, demands: Demands, outcome: Outcome) -> None:
        if (fence := demands.fence) is not None:
            found = outcome.found.get(fence.key)
            if found is None or found.create_revision != fence.create_revision:
                raise errors.Fenced(f"the election that this write names is over: {fence.key.decode()}")
        if demands.standing is not None:
            key, revision = demands.standing
            found = outcome.found.get(key)
            if found is None or found.mod_revision != revision:
                raise errors.Fenced(f"the session that this write comes over is not the last one: {key.decode()}")


def now() -> Timestamp:
    """The time to the second, as Kubernetes' objects have it."""
    return Timestamp(seconds=int(time.time()))


def _encode(kind: Kind, key: str, obj: Any) -> bytes:
    stored = wire.encode(obj)
    if len(stored) > OBJECT_BYTES:
        raise errors.TooLarge(
            f"{lifecycle.describe(kind, key)} has {len(stored)} bytes; at most {OBJECT_BYTES} (1.5 MiB) can be stored",
            metadata={"kind": kind.name, "key": key},
        )
    return stored


def _sent(kind: Kind, entry: Entry, stored: bytes, revision: int) -> bytes:
    """The new state, or of an object that was removed its last one at the revision of its removal."""
    return wire.stamp(stored, revision) if stored else wire.restamp(kind.message(), entry.sent, revision)


def _checks(write: Write) -> Write:
    """What a dry run does of a write."""
    return Write(write.compares)


def _compares(demands: Demands) -> list[pb.Compare]:
    compares = []
    if (fence := demands.fence) is not None:
        compares.append(op.created_at(fence.key, fence.create_revision))
    if demands.standing is not None:
        compares.append(op.unchanged(*demands.standing))
    return compares


def _found(kind: Kind, key: str, outcome: Outcome) -> Entry | None:
    kv = outcome.found.get(keys.object_key(kind, key))
    return entries.make(kind, key, kv.value, kv.mod_revision) if kv is not None else None


def _same(entry: Entry, outcome: Outcome) -> bool:
    kv = outcome.found.get(keys.object_key(entry.kind, entry.key))
    return kv is not None and kv.mod_revision == entry.revision


def _namespace_key(namespace: Entry) -> bytes:
    return keys.namespace_key(namespace.key)


def _as_found(namespace: Entry, outcome: Outcome) -> Entry:
    return _active(namespace.key, _found(kinds.NAMESPACE, namespace.key, outcome))


def _active(name: str, namespace: Entry | None) -> Entry:
    if namespace is None:
        raise errors.NotFound(f'the namespace "{name}" does not exist: create it first')
    if namespace.fields["status.phase"] == "Terminating":
        raise errors.PreconditionFailed(f'the namespace "{name}" is being deleted: nothing new can be made in it')
    return namespace


def _already_exists(kind: Kind, key: str) -> errors.AlreadyExists:
    return errors.AlreadyExists(
        f"{lifecycle.describe(kind, key)} exists already", metadata={"kind": kind.name, "key": key}
    )
