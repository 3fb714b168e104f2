"""The watch iterator: one stream after another, joined so that the caller sees one history.

A position (revision and epoch) advances only after every event of a response was handed over, and a response holds
whole revisions: wherever a stream breaks, the next one goes on with the first event not delivered. Where the server has
not kept that history (compacted, or a store that was restored), the objects are listed again and the difference to what
was delivered before comes out as events, so that the caller's picture is right again without its doing.

Nothing runs in the background: a stream is read in the caller's task, and HTTP/2 flow control is the back-pressure.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from podwire import errors, v1
from podwire.client.connection import Connection
from podwire.keys import Object, key_of, split_key
from podwire.kinds import Kind
from podwire.logs import Logger

if TYPE_CHECKING:
    from podwire.client.kind_client import Listed

log = Logger(__name__)

T = TypeVar("T", bound=Object)

ADDED: Final = "ADDED"
MODIFIED: Final = "MODIFIED"
DELETED: Final = "DELETED"
BOOKMARK: Final = "BOOKMARK"
# On the bookmark after the last initial event; Kubernetes has k8s.io/initial-events-end.
INITIAL_EVENTS_END: Final = "podwire.io/initial-events-end"


@dataclass(frozen=True, slots=True)
class WatchEvent(Generic[T]):
    """`type` is ADDED, MODIFIED, DELETED, or BOOKMARK (only its object's resource version counts)."""

    type: str
    object: T


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects of a kind are meant; empty: all."""

    namespace: str = ""
    label_selector: str = ""
    field_selector: str = ""


@dataclass(slots=True)
class Position:
    """A place in history: everything up to `resource_version` is known, in the history that `epoch` names."""

    resource_version: str = ""
    epoch: str = ""
    # The loop's time at which the stream was opened that goes on from here; None: there is none now.
    followed_since: float | None = None

    @property
    def revision(self) -> int:
        return int(self.resource_version or 0)


class Lister(Protocol[T]):
    async def __call__(self, selection: Selection) -> Listed[T]: ...


async def batches(
    connection: Connection, kind: Kind, selection: Selection, position: Position
) -> AsyncGenerator[list[WatchEvent[Any]], None]:
    """Responses after `position`, each as its events, through reconnects; `position` advances as they are taken.

    Raises HistoryLost where the server has not kept that history, and whatever cannot get better by trying again.
    """
    backoff = connection.backoff()
    while True:
        delay = 0.0
        try:
            async with aclosing(_one_stream(connection, kind, selection, position)) as stream:
                async for events in stream:
                    backoff.reset()
                    yield events
        except errors.PodwireError as error:
            if not may_pass(error):
                raise
            log.info("watch interrupted", kind=kind.name, revision=position.resource_version, error=str(error))
            delay = error.retry_after
        await asyncio.sleep(backoff.next(at_least=delay))


async def _one_stream(
    connection: Connection, kind: Kind, selection: Selection, position: Position
) -> AsyncGenerator[list[WatchEvent[Any]], None]:
    settings = connection.settings
    request = v1.WatchRequest(
        namespace=selection.namespace,
        label_selector=selection.label_selector,
        field_selector=selection.field_selector,
        resource_version=position.resource_version,
        epoch=position.epoch,
        bookmark_interval_seconds=settings.bookmark_interval,
    )
    stream = await connection.open("unary_stream", f"/{kind.service}/Watch", kind.watch_response, request)
    position.followed_since = asyncio.get_running_loop().time()
    try:
        while True:
            try:
                async with asyncio.timeout(settings.silence):
                    response = await stream.read()
            except TimeoutError:
                raise stream.gone_silent(settings.silence) from None
            if response is None:
                return
            if position.epoch and response.epoch != position.epoch:
                raise errors.HistoryLost(f"the store's history is another: {response.epoch}, not {position.epoch}")
            position.epoch = response.epoch
            fresh = [event for event in response.events if _revision(event.object) > position.revision]
            if fresh:
                yield [WatchEvent(event.type, event.object) for event in fresh]
                position.resource_version = fresh[-1].object.metadata.resource_version
    finally:
        position.followed_since = None
        stream.cancel()


def may_pass(error: errors.PodwireError) -> bool:
    """Whether a broken list or watch is worth another try."""
    # Internal too: gRPC reports a connection that broke in the middle of a stream as any of several statuses.
    return error.retryable or isinstance(error, errors.Internal)


def is_behind(listed: Listed[Any], position: Position) -> bool:
    """Whether a list shows less than is known already, in the same history: it is not to be believed."""
    return listed.epoch == position.epoch and int(listed.resource_version) < position.revision


async def watch(
    connection: Connection,
    kind: Kind,
    selection: Selection,
    lister: Lister[T],
    position: Position,
    *,
    known: Iterable[T],
    initial: bool,
) -> AsyncGenerator[WatchEvent[T], None]:
    """`batches` for people: event by event, with a new list where history is lost."""
    delivered = _Delivered(kind, known)
    if not position.resource_version:
        listed = await lister(selection)
        position = Position(listed.resource_version, listed.epoch)
        delivered.note(listed.items)
        if initial:
            for item in listed.items:
                yield WatchEvent(ADDED, item)
            end = _bookmark(kind, position)
            end.metadata.annotations[INITIAL_EVENTS_END] = "true"
            yield WatchEvent(BOOKMARK, end)
    backoff = connection.backoff()
    while True:
        try:
            async with aclosing(batches(connection, kind, selection, position)) as responses:
                async for events in responses:
                    backoff.reset()
                    for event in events:
                        delivered.note_event(event)
                        yield event
        except errors.HistoryLost as lost:
            log.info("watch lists again", kind=kind.name, revision=position.resource_version, reason=str(lost))
        await asyncio.sleep(backoff.next(at_least=connection.relist_delay()))
        try:
            listed = await lister(selection)
        except errors.PodwireError as error:
            if not may_pass(error):
                raise
            log.info("list failed", kind=kind.name, error=str(error))
            continue
        if is_behind(listed, position):
            continue
        for event in delivered.difference(listed, position):
            delivered.note_event(event)
            yield event
        position = Position(listed.resource_version, listed.epoch)
        yield WatchEvent(BOOKMARK, _bookmark(kind, position))


class _Delivered:
    """What the caller has, by key: resource version and uid. Enough to tell the difference to a new list."""

    def __init__(self, kind: Kind, known: Iterable[Any]) -> None:
        self._kind = kind
        self._objects: dict[str, tuple[str, str]] = {}
        self.note(known)

    def note(self, objects: Iterable[Any]) -> None:
        for obj in objects:
            self._objects[key_of(obj)] = (obj.metadata.resource_version, obj.metadata.uid)

    def note_event(self, event: WatchEvent[Any]) -> None:
        if event.type == DELETED:
            self._objects.pop(key_of(event.object), None)
        elif event.type != BOOKMARK:
            self.note([event.object])

    def difference(self, listed: Listed[Any], position: Position) -> list[WatchEvent[Any]]:
        """The events that lead from what was delivered, up to `position`, to `listed`."""
        items = {key_of(item): item for item in listed.items}
        same_history = listed.epoch == position.epoch
        gone = {
            key: uid for key, (_, uid) in self._objects.items() if key not in items or items[key].metadata.uid != uid
        }
        events = [WatchEvent(DELETED, self._tombstone(key, uid, listed)) for key, uid in gone.items()]
        for key, item in items.items():
            if key in gone or key not in self._objects:
                # What is no newer than the position and was never delivered is what the caller did not ask for: it was
                # there before the watch began.
                if key in gone or not same_history or _revision(item) > position.revision:
                    events.append(WatchEvent(ADDED, item))
            elif not same_history or self._objects[key][0] != item.metadata.resource_version:
                events.append(WatchEvent(MODIFIED, item))
        return events

    def _tombstone(self, key: str, uid: str, listed: Listed[Any]) -> Any:
        """A deleted object of which only this is known: its last state went with the history."""
        tombstone: Any = self._kind.message()
        tombstone.metadata.namespace, tombstone.metadata.name = split_key(key)
        tombstone.metadata.uid = uid
        tombstone.metadata.resource_version = listed.resource_version
        return tombstone


def _bookmark(kind: Kind, position: Position) -> Any:
    bookmark: Any = kind.message()
    bookmark.metadata.resource_version = position.resource_version
    return bookmark


def _revision(obj: Any) -> int:
    return int(obj.metadata.resource_version)
