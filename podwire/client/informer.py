"""A local picture of the objects of a kind, kept up to date: list, then watch, list again where history is lost.

Readers get whatever the picture holds without a round trip; handlers hear of every change as (key, old, new). Objects
in it are shared: nobody changes one, a changed copy is written through the client.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from contextlib import aclosing
from typing import Generic, NoReturn, TypeVar

from podwire import errors
from podwire.backoff import Backoff
from podwire.client.kind_client import KindClient, Listed
from podwire.client.watching import BOOKMARK, DELETED, Position, Selection, WatchEvent, batches, is_behind, may_pass
from podwire.keys import Object, key_of
from podwire.logs import Logger

log = Logger(__name__)

T = TypeVar("T", bound=Object)
Handler = Callable[[str, T | None, T | None], None]


class Informer(Generic[T]):
    """`run` keeps it up to date, as a task with an owner; `wait_synced` waits until it is complete for the first time.

    Keys are `"namespace/name"`, or `"name"` where the kind has no namespaces. Handlers are called in the event loop, in
    the order of history, and must not block; there are no periodic repetitions, because no change is missed.

    Within one epoch the picture never goes back: a list older than what was seen is not believed. Of a key whose object
    was replaced by another of the same name, handlers hear the deletion first.
    """

    def __init__(
        self,
        client: KindClient[T],
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        strip: Callable[[T], None] | None = None,
    ) -> None:
        """`strip` removes from every object, in place, what nobody will read: it is not kept in memory."""
        self._client = client
        self._strip = strip
        self._selection = Selection(namespace, label_selector, field_selector)
        self._objects: dict[str, T] = {}
        self._handlers: list[Handler[T]] = []
        self._indexes: dict[str, _Index[T]] = {}
        self._position = Position()
        self._synced = asyncio.Event()

    @property
    def resource_version(self) -> str:
        """Everything up to this revision is in the picture."""
        return self._position.resource_version

    @property
    def epoch(self) -> str:
        return self._position.epoch

    @property
    def following_since(self) -> float | None:
        """Since when, in the loop's time, changes come without a break; None while the connection is lost.

        Who draws conclusions from when it heard of a change must know for how long it could have heard of it.
        """
        return self._position.followed_since

    @property
    def synced(self) -> bool:
        """Whether the picture was complete once."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        """Until the picture is complete. Where `run` has raised that is never: have both in one TaskGroup."""
        await self._synced.wait()

    def get(self, key: str) -> T | None:
        """The object of the key as of `resource_version`; None: there is none, or the picture is not complete yet."""
        return self._objects.get(key)

    def values(self) -> Collection[T]:
        return self._objects.values()

    def keys(self) -> Collection[str]:
        return self._objects.keys()

    def add_handler(self, handler: Handler[T]) -> None:
        """Calls `handler(key, old, new)` for every change from now on, and now for every object there is."""
        self._handlers.append(handler)
        for key, obj in list(self._objects.items()):
            handler(key, None, obj)

    def add_index(self, name: str, values_of: Callable[[T], Iterable[str]]) -> None:
        """Makes `by_index(name, value)` find the objects for which `values_of` gives `value`."""
        index = _Index(values_of)
        for key, obj in self._objects.items():
            index.replace(key, None, obj)
        self._indexes[name] = index

    def by_index(self, name: str, value: str) -> list[T]:
        """The objects that the index `name` has for `value`; KeyError where `add_index` made no such index."""
        return [self._objects[key] for key in self._indexes[name].keys_of(value)]

    async def run(self) -> NoReturn:
        """Keeps the picture until cancelled. Raises what no retry can help against (a wrong selector, no access)."""
        backoff = self._client.connection.backoff()
        while True:
            delay = 0.0
            try:
                await self._list()
                await self._follow(backoff)
            except errors.HistoryLost as lost:
                log.info("informer lists again", kind=self._client.kind.name, reason=str(lost))
                delay = self._client.connection.relist_delay()
            except errors.PodwireError as error:
                if not may_pass(error):
                    raise
                log.info("informer lists again", kind=self._client.kind.name, reason=str(error))
                delay = error.retry_after
            await asyncio.sleep(backoff.next(at_least=delay))

    async def _list(self) -> None:
        selection = self._selection
        listed = await self._client.list(
            namespace=selection.namespace,
            label_selector=selection.label_selector,
            field_selector=selection.field_selector,
        )
        if is_behind(listed, self._position):
            raise errors.Unavailable(
                f"a list at revision {listed.resource_version} is older than what was seen, {self.resource_version}"
            )
        self._replace(listed)
        self._position = Position(listed.resource_version, listed.epoch)
        self._synced.set()

    async def _follow(self, backoff: Backoff) -> None:
        client = self._client
        async with aclosing(batches(client.connection, client.kind, self._selection, self._position)) as responses:
            async for events in responses:
                backoff.reset()
                for event in events:
                    self._take(event)

    def _replace(self, listed: Listed[T]) -> None:
        items = {key_of(item): item for item in listed.items}
        for key in self._objects.keys() - items.keys():
            self._change(key, None)
        same_history = listed.epoch == self._position.epoch
        for key, item in items.items():
            old = self._objects.get(key)
            if not (same_history and old and old.metadata.resource_version == item.metadata.resource_version):
                self._change(key, item)

    def _take(self, event: WatchEvent[T]) -> None:
        if event.type == BOOKMARK:
            return
        key = key_of(event.object)
        if event.type != DELETED:
            self._change(key, event.object)
        elif key in self._objects:
            self._change(key, None)

    def _change(self, key: str, new: T | None) -> None:
        old = self._objects.get(key)
        if old is not None and new is not None and old.metadata.uid != new.metadata.uid:
            self._change(key, None)
            old = None
        if new is not None and self._strip is not None:
            self._strip(new)
        if new is None:
            del self._objects[key]
        else:
            self._objects[key] = new
        for index in self._indexes.values():
            index.replace(key, old, new)
        for handler in self._handlers:
            handler(key, old, new)


class _Index(Generic[T]):
    """value -> keys, in the order in which they came."""

    def __init__(self, values_of: Callable[[T], Iterable[str]]) -> None:
        self._values_of = values_of
        self._keys: defaultdict[str, dict[str, None]] = defaultdict(dict)

    def keys_of(self, value: str) -> Iterable[str]:
        return self._keys.get(value, ())

    def replace(self, key: str, old: T | None, new: T | None) -> None:
        if old is not None:
            for value in self._values_of(old):
                keys = self._keys[value]
                keys.pop(key, None)
                if not keys:
                    del self._keys[value]
        if new is not None:
            for value in self._values_of(new):
                self._keys[value][key] = None
