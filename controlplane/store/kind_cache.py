"""All objects of one kind at the present, and the changes that led there: lists and watches are answered from here.

The history is a ring, bounded by bytes and by count. It serves two purposes: a watcher that comes back gets what it
missed, and a list's later pages show the objects as they were at the first page's revision, by undoing what has changed
since.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby
from typing import Final

from controlplane.store import wire
from controlplane.store.channels import Block, ChannelIndex, Watcher, block, event_of
from controlplane.store.entries import Change, Entry
from controlplane.store.selection import Selection
from controlplane.store.waking import Waker
from podwire import errors
from podwire.kinds import Kind

_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a kind remembers, and how far behind a watcher may be."""

    # Changes, and their bytes. At 200 changes a second this is at least 50 s; a replica's restart takes about one.
    history_count: int = 10_000
    history_bytes: int = 16 * _MIB
    # Of events that have gathered for a watcher that does not read.
    watcher_bytes: int = 8 * _MIB


# Pages that are kept for whoever lists the same, until something changes: a few large lists have room.
_KEPT_PAGES: Final = 4


@dataclass(slots=True)
class Page:
    """Part of a list, not to be changed. `last` is where the next page begins, or empty where nothing follows."""

    entries: Sequence[Entry]
    last: str
    remaining: int
    _items: bytes = field(default=b"", init=False)

    @property
    def items(self) -> bytes:
        """All entries as items of a list, put together once."""
        if not self._items:
            self._items = b"".join([entry.item for entry in self.entries])
        return self._items


class KindCache:
    def __init__(self, kind: Kind, limits: Limits, waker: Waker) -> None:
        self.kind = kind
        self.entries: dict[str, Entry] = {}
        # A watch can begin at this revision or later.
        self.floor = 0
        self._limits = limits
        self._keys: list[str] = []
        self._history: deque[Change] = deque()
        self._history_bytes = 0
        self._channels = ChannelIndex(waker, limits.watcher_bytes)
        # Pages of the present.
        self._pages: dict[tuple[Selection, str, int, int], Page] = {}

    # Writing: by the one task that follows etcd.

    def reset(self, entries: Iterable[Entry], revision: int) -> None:
        """Starts over at `revision`; whoever watches lists again."""
        self.entries = {entry.key: entry for entry in entries}
        self._keys = sorted(self.entries)
        self._history.clear()
        self._history_bytes = 0
        self._pages.clear()
        self.floor = revision
        self._channels.end(errors.HistoryLost(f"the history of {self.kind.plural} begins anew: list again"))

    def end_watches(self, error: errors.PodwireError) -> None:
        self._channels.end(error)

    def apply(self, revision: int, key: str, new: Entry | None) -> None:
        """The next change: of one key, in order of revisions."""
        old = self.entries.get(key)
        if new is not None:
            self.entries[key] = new
            if old is None:
                insort(self._keys, key)
        elif old is not None:
            del self.entries[key]
            del self._keys[bisect_left(self._keys, key)]
        else:
            return
        self._pages.clear()
        change = Change(revision, key, old, new)
        self._history.append(change)
        self._history_bytes += change.size
        while len(self._history) > self._limits.history_count or self._history_bytes > self._limits.history_bytes:
            dropped = self._history.popleft()
            self._history_bytes -= dropped.size
            self.floor = dropped.revision
        self._channels.publish(change)

    # Reading.

    def page(self, selection: Selection, revision: int, after: str, limit: int, max_bytes: int) -> Page:
        """The selected objects that come after the key `after`, as they were at `revision`.

        `revision` is the cache's own, or one for which there is history; else HistoryLost. Many who list the same at
        one moment, as watchers do that have lost their history, share the work and the bytes.
        """
        entries, keys = self._at(revision)
        if entries is not self.entries:
            return _cut(entries, keys, selection, after, limit, max_bytes)
        asked = (selection, after, limit, max_bytes)
        page = self._pages.get(asked)
        if page is None:
            page = _cut(entries, keys, selection, after, limit, max_bytes)
            if len(self._pages) >= _KEPT_PAGES:
                self._pages.clear()
            self._pages[asked] = page
        return page

    def watch(self, selection: Selection, revision: int) -> Watcher:
        """Every change after `revision`, which the cache has reached."""
        if revision < self.floor:
            raise errors.HistoryLost(
                f"revision {revision} is older than the history of {self.kind.plural}, which begins with {self.floor}: "
                "list again"
            )
        missed = list(self._changes_after(revision))
        missed.reverse()
        return self._channels.open(selection, _blocks(missed, selection))

    def watch_with_initial(self, selection: Selection, revision: int, *, end_mark: str) -> Watcher:
        """Everything there is at `revision`, the cache's own, as ADDED; a bookmark annotated `end_mark`; changes."""
        chosen = [entry for entry in map(self.entries.__getitem__, self._keys) if selection.matches(entry)]
        mark = wire.bookmark(revision, initial_events_end=end_mark)
        initial = chain(
            (block(entry.revision, [(wire.event_header(wire.ADDED, len(entry.item)), entry.item)]) for entry in chosen),
            (Block(revision, [mark], len(mark)),),
        )
        return self._channels.open(selection, initial)

    @property
    def watchers(self) -> int:
        return self._channels.watchers

    @property
    def history(self) -> int:
        return len(self._history)

    def _changes_after(self, revision: int) -> Iterator[Change]:
        """From the latest back."""
        for change in reversed(self._history):
            if change.revision <= revision:
                return
            yield change

    def _at(self, revision: int) -> tuple[Mapping[str, Entry], list[str]]:
        if revision < self.floor:
            raise errors.HistoryLost(
                f"the list's revision {revision} is older than the history of {self.kind.plural}: start the list again "
                "without its continue token"
            )
        before: dict[str, Entry | None] = {change.key: change.old for change in self._changes_after(revision)}
        if not before:
            return self.entries, self._keys
        merged: dict[str, Entry | None] = {**self.entries, **before}
        past = {key: entry for key, entry in merged.items() if entry is not None}
        return past, sorted(past)


def _cut(
    entries: Mapping[str, Entry], keys: list[str], selection: Selection, after: str, limit: int, max_bytes: int
) -> Page:
    if selection.namespace:
        start, stop = _namespace_bounds(keys, selection.namespace)
    else:
        start, stop = 0, len(keys)
    if after:
        start = max(start, bisect_left(keys, after + "\x00"))
    chosen: list[Entry] = []
    size = 0
    everything = selection.selects_all
    for index in range(start, stop):
        entry = entries[keys[index]]
        if not everything and not selection.matches(entry):
            continue
        size += len(entry.item)
        if chosen and (size > max_bytes or (limit and len(chosen) >= limit)):
            return Page(chosen, chosen[-1].key, stop - index)
        chosen.append(entry)
    return Page(chosen, "", 0)


def _namespace_bounds(keys: list[str], namespace: str) -> tuple[int, int]:
    # "0" is what follows "/".
    return bisect_left(keys, namespace + "/"), bisect_left(keys, namespace + "0")


def _blocks(changes: Sequence[Change], selection: Selection) -> Iterator[Block]:
    """The events that `changes` are to `selection`, a block a revision, made when they are asked for."""
    for revision, group in groupby(changes, key=lambda change: change.revision):
        pairs = [pair for change in group if (pair := event_of(change, selection)) is not None]
        if pairs:
            yield block(revision, pairs)
