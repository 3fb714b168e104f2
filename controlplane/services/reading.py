"""Get, List and Watch, from the cache: proven fresh first, unless the client takes what the replica has."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from controlplane.http2 import Context
from controlplane.services import lifecycle
from controlplane.services.calls import Delivery
from controlplane.store import wire
from controlplane.store.cache import Cache
from controlplane.store.channels import BATCH_BYTES, Watcher
from controlplane.store.entries import Entry
from controlplane.store.kind_cache import Page
from controlplane.store.selection import Selection
from podwire import errors, v1
from podwire.client import INITIAL_EVENTS_END
from podwire.keys import join_key
from podwire.kinds import Kind

CACHED: Final = "any"
NOT_OLDER_THAN: Final = "NotOlderThan"
EXACT: Final = "Exact"
# Digits of the largest revision, 2^63 - 1.
_MOST_DIGITS: Final = 19
DEFAULT_BOOKMARK_SECONDS: Final = 10


@dataclass(frozen=True, slots=True)
class Continue:
    """Where a list goes on: the revision of its first page, and the last key of the page before."""

    revision: int
    epoch: str
    last: str

    @classmethod
    def parse(cls, token: str) -> Continue:
        try:
            revision, epoch, last = json.loads(base64.urlsafe_b64decode(token))
            # Becomes part of a key.
            last.encode()
            if isinstance(epoch, str) and _revision(str(revision)):
                return cls(_revision(str(revision)), epoch, last)
        except (ValueError, TypeError, AttributeError, RecursionError, errors.Invalid):
            pass  # Tokens that were never given are wrong in many ways.
        raise errors.Invalid("continue is not a token that a list has given: start without one")

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(json.dumps([self.revision, self.epoch, self.last]).encode()).decode()


class Reader:
    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    async def get(self, kind: Kind, request: v1.GetRequest) -> bytes:
        """The object's bytes."""
        if not request.name:
            raise errors.Invalid("a get needs a name")
        namespace = (request.namespace or lifecycle.DEFAULT_NAMESPACE) if kind.namespaced else ""
        key = join_key(namespace, request.name)
        await self._reach(request.resource_version)
        entry = self._cache.of(kind).entries.get(key)
        if entry is None:
            raise lifecycle.not_found(kind, key)
        return entry.sent

    async def list(self, kind: Kind, request: v1.ListRequest) -> list[bytes]:
        """A page of at most 2 MiB: what the bytes of the kind's List are put together from."""
        selection = Selection.parse(kind, request.namespace, request.label_selector, request.field_selector)
        if request.limit < 0:
            raise errors.Invalid("limit must not be negative")
        if getattr(request, "continue"):
            token = Continue.parse(getattr(request, "continue"))
            self._check_epoch(token.epoch)
            await self._cache.wait_revision(token.revision)
            revision, last = token.revision, token.last
        else:
            await self._reach(request.resource_version)
            revision, last = self._revision_of(request), ""
        page = await self._page(selection, revision, last, request.limit)
        metadata = v1.ListMeta(resource_version=str(revision), epoch=self._cache.epoch)
        if page.last:
            setattr(metadata, "continue", str(Continue(revision, self._cache.epoch, page.last)))
            if selection.selects_all:
                metadata.remaining_item_count = page.remaining
        return [wire.list_metadata(metadata), page.items]

    async def select(self, kind: Kind, namespace: str, label_selector: str, field_selector: str) -> Sequence[Entry]:
        """Everything that is selected now, in the order of keys."""
        selection = Selection.parse(kind, namespace, label_selector, field_selector)
        await self._cache.wait_fresh()
        return self._cache.of(kind).page(selection, self._cache.revision, "", 0, sys.maxsize).entries

    async def watch(self, kind: Kind, request: v1.WatchRequest) -> Watch:
        """An open watch. Raises HistoryLost where the revision asked for is gone or belongs to another epoch."""
        selection = Selection.parse(kind, request.namespace, request.label_selector, request.field_selector)
        self._check_epoch(request.epoch)
        await self._cache.wait_contact()
        cache = self._cache.of(kind)
        if request.send_initial_events:
            await self._reach(request.resource_version)
            watcher = cache.watch_with_initial(selection, self._cache.revision, end_mark=INITIAL_EVENTS_END)
        elif request.resource_version:
            revision = _revision(request.resource_version)
            await self._cache.wait_revision(revision)
            watcher = cache.watch(selection, revision)
        else:
            await self._cache.wait_fresh()
            watcher = cache.watch(selection, self._cache.revision)
        return Watch(self._cache, watcher, request.bookmark_interval_seconds or DEFAULT_BOOKMARK_SECONDS)

    def _revision_of(self, request: v1.ListRequest) -> int:
        """The revision of a list that begins, once the cache has reached what it asks for."""
        match, version = request.resource_version_match, request.resource_version
        if match not in ("", NOT_OLDER_THAN, EXACT):
            raise errors.Invalid(f'resource_version_match must be {NOT_OLDER_THAN} or {EXACT}, not "{match}"')
        if match and not version:
            raise errors.Invalid(
                "resource_version_match says how a resource_version is meant: give one, or leave it out"
            )
        if match != EXACT:
            return self._cache.revision
        if version == CACHED or not _revision(version):
            raise errors.Invalid(f'the state at resource_version "{version}" cannot be listed: name a revision')
        return _revision(version)

    async def _page(self, selection: Selection, revision: int, after: str, limit: int) -> Page:
        cache = self._cache.of(selection.kind)
        if revision >= cache.floor:
            return cache.page(selection, revision, after, limit, BATCH_BYTES)
        try:
            return await self._cache.past.page(selection, revision, after, limit, BATCH_BYTES)
        except errors.HistoryLost:
            raise errors.HistoryLost(
                f"the state of {selection.kind.plural} at revision {revision} is compacted: list again from the start, "
                "without a continue token and without that resource_version"
            ) from None

    async def _reach(self, resource_version: str) -> None:
        """Waits until the cache may answer: empty is now, a revision is at least that, `any` is at once."""
        if not resource_version:
            await self._cache.wait_fresh()
        elif resource_version != CACHED:
            await self._cache.wait_revision(_revision(resource_version))

    def _check_epoch(self, epoch: str) -> None:
        if epoch and epoch != self._cache.epoch:
            raise errors.HistoryLost(f"the store's epoch is {self._cache.epoch}, not {epoch}: list again")


class Watch:
    """One watch under way, to be closed. `run` sends its responses; `watcher` can be ended from outside."""

    def __init__(self, cache: Cache, watcher: Watcher, bookmark_interval: float) -> None:
        self.watcher = watcher
        self._cache = cache
        self._bookmark_interval = bookmark_interval
        self._loop = asyncio.get_running_loop()
        self._bookmark_due = False
        self._last_sent = self._loop.time()
        self._look_again(bookmark_interval)

    async def run(self, context: Context, delivery: Delivery) -> NoReturn:
        """Sends batches of events, and a bookmark whenever there was none for the interval. Raises what ended it.

        A batch has as many bytes as `delivery` has room for, or one revision's. As long as its client takes them, they
        are sent in the watcher's turn itself: to wake this task for each costs as much as to send it.
        """
        watcher = self.watcher

        def turn() -> bool:
            if context.closed or context.waits:
                return False
            self._send(context, delivery)
            if context.waits:
                return False
            delivery.is_over()
            watcher.rest()
            return True

        watcher.on_turn = turn
        while True:
            if not context.waits:
                self._send(context, delivery)
            await context.drained()
            delivery.is_over()
            await watcher.turn()

    def _send(self, context: Context, delivery: Delivery) -> None:
        ending = self._cache.epoch_field
        response = self.watcher.take(delivery.room(), ending)
        if not response and self._bookmark_due:
            response = wire.bookmark(self._cache.revision) + ending
        if response:
            delivery.begins(len(response))
            context.send(response)
            self._last_sent = self._loop.time()
            self._bookmark_due = False

    def close(self) -> None:
        self._timer.cancel()
        self.watcher.close()

    def _look_again(self, seconds: float) -> None:
        self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        """One timer an interval, not one a message: those cost a tenth of a message."""
        left = self._last_sent + self._bookmark_interval - self._loop.time()
        if left > 0:
            self._look_again(left)
        else:
            self._bookmark_due = True
            self.watcher.wake()
            self._look_again(self._bookmark_interval)


def _revision(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > _MOST_DIGITS:
        raise errors.Invalid(f'resource_version must be a revision, "{CACHED}" or empty, not "{text}"')
    return int(text)
