"""The watch cache: one etcd watch on `/podwire/`, dealt out to a cache for each kind.

A replica that starts reads the state as it was some revisions ago and watches from there: it then has not only the
present but the history that leads to it, and watchers of the replica before it resume as if nothing had happened.

Where etcd's history is lost (compacted while the replica was cut off, or the store restored from a backup, which shows
in its epoch or in a revision that goes backwards) everything is read anew, once, and watchers list again.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, NoReturn

import structlog

from controlplane.store import entries, keys, wire
from controlplane.store import operations as op
from controlplane.store.api.kv_pb2 import Event, KeyValue
from controlplane.store.contact import Contact
from controlplane.store.endpoints import Compacted
from controlplane.store.etcd import Etcd
from controlplane.store.freshness import Freshness, Reached
from controlplane.store.kind_cache import KindCache, Limits
from controlplane.store.past import Past
from controlplane.store.waking import Waker
from podwire import errors, kinds
from podwire.attempt import attempt
from podwire.backoff import Backoff
from podwire.kinds import Kind

log = structlog.get_logger(__name__)

# Objects a Range at the start asks for at once: a few MB, so that etcd and the event loop do other work in between.
_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class CacheSettings:
    limits: Limits = field(default_factory=Limits)
    # Revisions of history that a replica reads from etcd at its start; about a second's work.
    history_revisions: int = 10_000


@dataclass(frozen=True, slots=True)
class _Snapshot:
    items: Sequence[KeyValue]
    revision: int


class Cache:
    """`run` needs a task; everything else may be used once `wait_synced` has returned."""

    def __init__(self, etcd: Etcd, settings: CacheSettings | None = None) -> None:
        self._etcd = etcd
        self._settings = settings or CacheSettings()
        # One for all kinds: it is the loop's turns that are shared out.
        waker = Waker()
        self._kinds = {kind.name: KindCache(kind, self._settings.limits, waker) for kind in kinds.KINDS}
        self._allocations: dict[bytes, bytes] = {}
        self._reached = Reached()
        self._freshness = Freshness(etcd, self._reached)
        self._contact = Contact(self._freshness.wait, self.end_watches)
        self._synced = asyncio.Event()
        self.past = Past(etcd)
        # How often everything was read anew; more than one means that history was lost.
        self.starts = 0
        self.epoch = ""
        # The epoch as every watch response ends with it.
        self.epoch_field = b""

    def of(self, kind: Kind) -> KindCache:
        return self._kinds[kind.name]

    @property
    def revision(self) -> int:
        """Everything up to it has been dealt out."""
        return self._reached.revision

    @property
    def allocations(self) -> Mapping[bytes, bytes]:
        """The keys under `keys.ALLOCATIONS` and who has them."""
        return self._allocations

    @property
    def synced(self) -> bool:
        return self._synced.is_set()

    def end_watches(self, error: errors.PodwireError) -> None:
        """Ends every watch of every kind."""
        for cache in self._kinds.values():
            cache.end_watches(error)

    async def wait_synced(self) -> None:
        """Until the cache has caught up with etcd for the first time."""
        await self._synced.wait()

    async def wait_fresh(self) -> None:
        """Until the cache holds everything that was written before the call."""
        await self._freshness.wait()

    async def wait_contact(self) -> None:
        """Until the cache can follow what is written; Unavailable while it is cut off from etcd."""
        await self._contact.wait()

    async def wait_revision(self, revision: int) -> None:
        """Until the cache has reached a revision that a client has seen, perhaps through another replica."""
        if self._reached.revision < revision:
            await self._freshness.wait()
        if self._reached.revision < revision:
            raise errors.HistoryLost(f"the store has not reached revision {revision}: list again")

    async def run(self) -> NoReturn:
        """Follows etcd for ever, through its restarts."""
        backoff = Backoff(0.05, 2.0)
        while True:
            try:
                await attempt(self._from_the_start(backoff))
            except* (errors.HistoryLost, errors.Unavailable, errors.Timeout) as lost:
                reason = str(lost.exceptions[0])
                log.warning("the cache starts over", reason=reason)
                self._freshness.give_up(errors.Unavailable(f"the store cannot be read now: {reason}"))
            await asyncio.sleep(backoff.next())

    async def _from_the_start(self, backoff: Backoff) -> None:
        await self._start()
        async with asyncio.TaskGroup() as owner:
            owner.create_task(self._follow(), name="follow etcd")
            owner.create_task(self._freshness.run(), name="prove freshness")
            owner.create_task(self._contact.run(), name="prove contact")
            owner.create_task(self._note_synced(backoff), name="note that the cache is synced")

    async def _note_synced(self, backoff: Backoff) -> None:
        while True:
            try:
                await self.wait_fresh()
                break
            except errors.Unavailable as error:
                log.info("etcd does not answer yet", reason=str(error))
        backoff.reset()
        if not self.synced:
            log.info("cache synced", revision=self.revision, epoch=self.epoch)
        self._synced.set()

    async def _start(self) -> None:
        epoch = await self._ensure_epoch()
        # What was before the epoch belongs to another history.
        snapshot = await self._snapshot(oldest=epoch.mod_revision)
        found: dict[str, list[entries.Entry]] = {name: [] for name in self._kinds}
        allocations: dict[bytes, bytes] = {}
        for item in snapshot.items:
            parsed = keys.parse(item.key)
            if parsed is not None:
                found[parsed[0].name].append(entries.make(*parsed, item.value, item.mod_revision))
            elif item.key.startswith(keys.ALLOCATIONS):
                allocations[item.key] = item.value
        self.starts += 1
        self.epoch = epoch.value.decode()
        self.epoch_field = wire.epoch_field(self.epoch)
        self._allocations = allocations
        for name, cache in self._kinds.items():
            cache.reset(found[name], snapshot.revision)
        self._reached.advance(snapshot.revision)

    async def _ensure_epoch(self) -> KeyValue:
        made = op.put(keys.EPOCH, secrets.token_hex(8).encode())
        # Sent again where its fate is unknown: a second one finds the first one's epoch.
        await self._etcd.txn([op.absent(keys.EPOCH)], [made])
        stored = await self._etcd.get(keys.EPOCH)
        if stored is None:
            raise errors.Unavailable("the store's epoch was deleted while it was read")
        return stored

    async def _snapshot(self, *, oldest: int) -> _Snapshot:
        """The state some revisions ago: as many as wanted, as `oldest` permits, or as etcd has."""
        now = (await self._etcd.range(keys.EPOCH, keys_only=True)).revision
        back = min(self._settings.history_revisions, now - oldest)
        while True:
            try:
                return await self._read_all(now - back)
            except Compacted:
                if back == 0:
                    raise
                back //= 2

    async def _read_all(self, revision: int) -> _Snapshot:
        items: list[KeyValue] = []
        start, end = keys.PREFIX, op.prefix_end(keys.PREFIX)
        while True:
            page = await self._etcd.range(start, end, revision=revision, limit=_PAGE)
            items.extend(page.items)
            if not page.more:
                return _Snapshot(items, revision)
            start = page.items[-1].key + b"\x00"

    async def _follow(self) -> NoReturn:
        start = self._reached.revision + 1
        async with aclosing(self._etcd.watch(keys.PREFIX, op.prefix_end(keys.PREFIX), start_revision=start)) as watch:
            async for batch in watch:
                for event in batch.events:
                    self._deal(event)
                self._reached.advance(batch.revision)
        raise errors.Unavailable("etcd's watch ended")

    def _deal(self, event: Event) -> None:
        kv = event.kv
        deleted = event.type == Event.DELETE
        parsed = keys.parse(kv.key)
        if parsed is not None:
            kind, key = parsed
            new = None if deleted else entries.make(kind, key, kv.value, kv.mod_revision)
            self._kinds[kind.name].apply(kv.mod_revision, key, new)
        elif kv.key.startswith(keys.ALLOCATIONS):
            if deleted:
                self._allocations.pop(kv.key, None)
            else:
                self._allocations[kv.key] = kv.value
        elif kv.key == keys.EPOCH and (deleted or kv.value.decode() != self.epoch):
            raise errors.HistoryLost("the store has another epoch: it was restored")
