"""From a change to those who watch it.

Watchers of equal selections share a channel. What happens costs once a channel, not once a watcher: a change is looked
at, becomes an event's bytes, and stands in the channel's log; a watcher is a position in that log. When it asks it gets
all that has gathered since, whole revisions only, and those that stand at the same position get the very same bytes.

A log lasts until its slowest watcher has read it, and no watcher may be further behind than a limit: one that is, is
ended, so that a reader that stands still costs bounded memory and nobody else's time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import structlog

from controlplane.store import wire
from controlplane.store.entries import Change
from controlplane.store.selection import By, Route, Selection
from controlplane.store.waking import Sleeper, Waker
from podwire import errors

log = structlog.get_logger(__name__)

# gRPC clients take 4 MiB by default; a revision, which is never cut, has at most etcd's 1.5 MiB.
BATCH_BYTES: Final = 2 * 1024 * 1024 - 64 * 1024
# How often a channel looks for what every watcher has read and for who is too slow: once so many bytes have come.
_TRIM_BYTES: Final = 256 * 1024


@dataclass(slots=True, eq=False)
class Block:
    """The events of one revision in one channel. `end` counts the channel's bytes up to and with this block."""

    revision: int
    parts: list[bytes]
    size: int
    end: int = 0


def block(revision: int, pairs: Iterable[tuple[bytes, bytes]]) -> Block:
    """Of the headers and items of a revision's events."""
    parts = list(chain.from_iterable(pairs))
    return Block(revision, parts, sum(map(len, parts)))


def event_of(change: Change, selection: Selection) -> tuple[bytes, bytes] | None:
    """What `change` is to a watcher of `selection`: an event's header and item, or nothing."""
    before = change.old is not None and selection.matches(change.old)
    after = change.new is not None and selection.matches(change.new)
    if after:
        assert change.new is not None
        framed = change.new.item
        return wire.event_header(wire.MODIFIED if before else wire.ADDED, len(framed)), framed
    if before:
        framed = change.departed()
        return wire.event_header(wire.DELETED, len(framed)), framed
    return None


def _nobody() -> bool:
    """For a watcher's turn: whoever waits for it must be woken."""
    return False


class Watcher(Sleeper):
    """One reader of a channel, with what it must be told before: the past, or everything there is."""

    def __init__(self, channel: Channel, past: Iterator[Block], leave: Callable[[Watcher], None]) -> None:
        super().__init__()
        self._channel = channel
        self._past: Iterator[Block] | None = past
        self._held: Block | None = None
        self._leave = leave
        self.position = channel.end_index
        self.read_bytes = channel.end_bytes
        self.error: errors.PodwireError | None = None
        # Called in its turn. Whoever sends without waiting for anything does so here, `rest`s, and answers True; nobody
        # need be woken then.
        self.on_turn: Callable[[], bool] = _nobody
        # Called once when the watcher is ended from the server's side while it does not wait for events.
        self.on_end: Callable[[], None] = lambda: None

    def take(self, limit: int = BATCH_BYTES, ending: bytes = b"") -> bytes:
        """What there is now, as the events of a response; empty when there is nothing. Raises what ended it.

        It has at most `limit` bytes, or one revision; `ending` comes behind them.
        """
        if self.error is not None:
            raise self.error
        if self._past is not None:
            batch = self._take_past(limit)
            if batch:
                return batch + ending
            self._past = None
        return self._channel.take(self, limit, ending)

    def turn(self) -> asyncio.Future[None]:
        """Done when there may be something to take and it is this watcher's turn to take it, or when it is woken."""
        woken = self.sleep()
        if self.error is not None:
            super().wake()
        else:
            self.rest()
        return woken

    def rest(self) -> None:
        """Until there may be something to take and it is this watcher's turn to take it."""
        self._channel.await_turn(self, at_once=self._past is not None)

    def wake(self) -> None:
        if self.error is None:
            try:
                if self.on_turn():
                    return
            except Exception:
                # What was taken may not have been sent.
                log.exception("a watch failed for a reason that nobody foresaw")
                self.end(errors.Internal("the watch failed inside the server: its log says why"))
        super().wake()

    def close(self) -> None:
        self._leave(self)
        # It refers to the watcher, in a ring that would wait for Python to collect garbage.
        self.on_turn = _nobody

    def end(self, error: errors.PodwireError) -> None:
        if self.error is None:
            self.error = error
            self.on_end()
            self.wake()

    def _take_past(self, limit: int) -> bytes:
        assert self._past is not None
        parts: list[bytes] = []
        size = 0
        following = self._held or next(self._past, None)
        while following is not None and (not parts or size + following.size <= limit):
            parts.extend(following.parts)
            size += following.size
            following = next(self._past, None)
        self._held = following
        return b"".join(parts)


class Channel:
    """The log of one selection."""

    def __init__(self, selection: Selection, route: Route, waker: Waker, lag_limit: int) -> None:
        self.selection = selection
        self.route = route
        self.watchers: set[Watcher] = set()
        # How many blocks and bytes it has had.
        self.end_index = 0
        self.end_bytes = 0
        self._log: list[Block] = []
        self._base = 0
        self._waker = waker
        self._lag_limit = lag_limit
        self._trim_at = _TRIM_BYTES
        # Those who have read everything and wait for more, in the order in which they came.
        self._idle: dict[Watcher, None] = {}
        # What was joined last: from, to, what it ends with, bytes.
        self._joined: tuple[int, int, bytes, bytes] = (0, 0, b"", b"")

    def publish(self, change: Change) -> None:
        event = event_of(change, self.selection)
        if event is None:
            return
        header, framed = event
        size = len(header) + len(framed)
        self.end_bytes += size
        if self._log and self._log[-1].revision == change.revision:
            last = self._log[-1]
            last.parts += event
            last.size += size
            last.end = self.end_bytes
        else:
            self._log.append(Block(change.revision, [header, framed], size, self.end_bytes))
            self.end_index += 1
        if self._idle:
            self._waker.queue(self._idle)
            self._idle.clear()
        if self.end_bytes >= self._trim_at:
            self._trim()

    def take(self, watcher: Watcher, limit: int, ending: bytes) -> bytes:
        if watcher.position == self.end_index:
            return b""
        first, end, ended, data = self._joined
        if first == watcher.position and end == self.end_index and ended == ending and len(data) <= limit:
            watcher.position = end
            watcher.read_bytes = self.end_bytes
            return data
        start = stop = watcher.position - self._base
        last = watcher.read_bytes + limit
        while stop < len(self._log) and (stop == start or self._log[stop].end <= last):
            stop += 1
        taken = chain.from_iterable(block.parts for block in self._log[start:stop])
        data = b"".join((*taken, ending))
        watcher.position = self._base + stop
        watcher.read_bytes = self._log[stop - 1].end
        self._joined = (self._base + start, watcher.position, ending, data)
        return data

    def await_turn(self, watcher: Watcher, *, at_once: bool) -> None:
        """Sees to it that the watcher is woken: when there is something for it, after those who wait already."""
        if at_once or watcher.position < self.end_index:
            self._waker.queue((watcher,))
        else:
            self._idle[watcher] = None

    def leave(self, watcher: Watcher) -> None:
        self.watchers.discard(watcher)
        self._idle.pop(watcher, None)

    def end(self, error: errors.PodwireError) -> None:
        for watcher in list(self.watchers):
            watcher.end(error)

    def _trim(self) -> None:
        """Ends who is too far behind, and forgets what everybody else has read."""
        for watcher in list(self.watchers):
            if self.end_bytes - watcher.read_bytes > self._lag_limit:
                watcher.end(
                    errors.SlowWatcher(
                        f"the watcher is more than {self._lag_limit >> 20} MiB of events behind: "
                        "list again, and read faster"
                    )
                )
        reading = [watcher.position for watcher in self.watchers if watcher.error is None]
        done = min(reading, default=self.end_index) - self._base
        del self._log[:done]
        self._base += done
        self._trim_at = self.end_bytes + _TRIM_BYTES


class ChannelIndex:
    """The channels of one kind, found by what they select: a change meets only those it may matter to."""

    def __init__(self, waker: Waker, lag_limit: int) -> None:
        self._waker = waker
        self._lag_limit = lag_limit
        self._channels: dict[Selection, Channel] = {}
        self._by_route: dict[Route, list[Channel]] = {}
        # Paths by which at least one channel is indexed.
        self._paths: dict[str, int] = {}

    def open(self, selection: Selection, past: Iterator[Block]) -> Watcher:
        """A watcher of what comes after this moment, and of `past` before it."""
        channel = self._channels.get(selection)
        if channel is None:
            route = selection.route()
            channel = self._channels[selection] = Channel(selection, route, self._waker, self._lag_limit)
            self._by_route.setdefault(route, []).append(channel)
            if route.by is By.FIELD:
                self._paths[route.path] = self._paths.get(route.path, 0) + 1
        watcher = Watcher(channel, past, self._leave)
        channel.watchers.add(watcher)
        return watcher

    def publish(self, change: Change) -> None:
        for channel in self._interested(change):
            channel.publish(change)

    def end(self, error: errors.PodwireError) -> None:
        """Ends every watcher."""
        for channel in list(self._channels.values()):
            channel.end(error)

    @property
    def watchers(self) -> int:
        return sum(len(channel.watchers) for channel in self._channels.values())

    def _interested(self, change: Change) -> Iterator[Channel]:
        entry = change.new or change.old
        assert entry is not None
        find = self._by_route.get
        none: Sequence[Channel] = ()
        yield from find(Route(By.ALL), none)
        yield from find(Route(By.NAMESPACE, entry.namespace), none)
        yield from find(Route(By.KEY, entry.key), none)
        for path in self._paths:
            old = change.old.fields[path] if change.old is not None else None
            new = change.new.fields[path] if change.new is not None else None
            if old is not None:
                yield from find(Route(By.FIELD, old, path), none)
            if new is not None and new != old:
                yield from find(Route(By.FIELD, new, path), none)

    def _leave(self, watcher: Watcher) -> None:
        channel = watcher._channel
        channel.leave(watcher)
        if channel.watchers or self._channels.get(channel.selection) is not channel:
            return
        del self._channels[channel.selection]
        channels = self._by_route[channel.route]
        channels.remove(channel)
        if not channels:
            del self._by_route[channel.route]
        if channel.route.by is By.FIELD:
            self._paths[channel.route.path] -= 1
            if not self._paths[channel.route.path]:
                del self._paths[channel.route.path]
