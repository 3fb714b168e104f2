"""The verbs of one kind, as typed methods. What a verb is called on the wire comes from the table of kinds."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar
from urllib.parse import unquote

from google.protobuf.message import Message

from podwire import errors, v1
from podwire.client.connection import Connection
from podwire.client.watching import Position, Selection, WatchEvent, watch
from podwire.keys import Object
from podwire.kinds import Kind

T = TypeVar("T", bound=Object)

# A list whose continue token was compacted away begins again; a store that compacts faster than that is at fault.
_LIST_ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True)
class Listed(Generic[T]):
    """A consistent snapshot at `resource_version` of the history that `epoch` names."""

    items: list[T]
    resource_version: str
    epoch: str


@dataclass(frozen=True, slots=True)
class Applied(Generic[T]):
    """What Apply did: `result` is created, configured or unchanged."""

    object: T
    result: str
    warnings: tuple[str, ...]


class KindClient(Generic[T]):
    """Every method raises `podwire.errors` and nothing else; writes are never retried, reads while patience lasts."""

    def __init__(self, connection: Connection, kind: Kind) -> None:
        self.kind = kind
        self.connection = connection

    async def create(self, obj: T, *, dry_run: bool = False) -> T:
        return await self._write("Create", self.kind.create_request(object=obj, dry_run=dry_run))

    async def get(self, name: str, *, namespace: str = "", cached: bool = False) -> T:
        """The object now; with `cached`, as the replica's cache has it, without a round trip to etcd."""
        request = v1.GetRequest(namespace=namespace, name=name, resource_version=_version(cached))
        found: T = await self.connection.read(self._method("Get"), request, self.kind.message)
        return found

    async def list(
        self, *, namespace: str = "", label_selector: str = "", field_selector: str = "", cached: bool = False
    ) -> Listed[T]:
        """All objects that the selectors name, of all namespaces where none is given."""
        return await self._list(Selection(namespace, label_selector, field_selector), cached=cached)

    def watch(
        self,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str = "",
        epoch: str = "",
        send_initial_events: bool = False,
        known: Iterable[T] = (),
    ) -> AsyncGenerator[WatchEvent[T], None]:
        """Every change after `resource_version` (empty: from now), each once and in order, until the caller stops.

        It survives lost connections, restarted servers and compaction. `known` are the objects that the caller has,
        the items of the list that `resource_version` is from: only with them can deletions be told where the history
        since then is lost. With `send_initial_events` whatever is there comes first, as ADDED, then a BOOKMARK.
        """
        return watch(
            self.connection,
            self.kind,
            Selection(namespace, label_selector, field_selector),
            self._list,
            Position(resource_version, epoch),
            known=known,
            initial=send_initial_events,
        )

    async def update(self, obj: T, *, dry_run: bool = False) -> T:
        """Replaces the object, status apart; a stale `metadata.resourceVersion` raises Conflict."""
        return await self._write("Update", self.kind.update_request(object=obj, dry_run=dry_run))

    async def update_status(self, obj: T) -> T:
        return await self._write("UpdateStatus", self.kind.update_request(object=obj))

    async def apply(
        self,
        manifest: Mapping[str, Any],
        *,
        namespace: str = "",
        field_manager: str = "podctl",
        dry_run: bool = False,
    ) -> Applied[T]:
        """Merges the manifest (a tree, as `podwire.manifest.load` gives) into the object, or creates it."""
        request = v1.ApplyRequest(
            manifest=json.dumps(manifest).encode(), namespace=namespace, field_manager=field_manager, dry_run=dry_run
        )
        obj, trailers = await self.connection.write_with_trailers(self._method("Apply"), request, self.kind.message)
        results = [value for key, value in trailers if key == "podwire-result"]
        warnings = tuple(unquote(value) for key, value in trailers if key == "podwire-warning")
        return Applied(obj, results[0] if results else "configured", warnings)

    async def delete(
        self,
        name: str,
        *,
        namespace: str = "",
        uid: str = "",
        resource_version: str = "",
        grace_period_seconds: int | None = None,
    ) -> T:
        """Deletes the object, if it still has `uid` and `resource_version` where these are given.

        The answer is the object as it was, or as it is while its deletion goes on (a pod that is being stopped).
        """
        request = v1.DeleteRequest(namespace=namespace, name=name, uid=uid, resource_version=resource_version)
        if grace_period_seconds is not None:
            request.grace_period_seconds = grace_period_seconds
        return await self._write("Delete", request)

    def _method(self, verb: str) -> str:
        return f"/{self.kind.service}/{verb}"

    async def _write(self, verb: str, request: Message) -> T:
        written: T = await self.connection.write(self._method(verb), request, self.kind.message)
        return written

    async def _list(self, selection: Selection, *, cached: bool = False) -> Listed[T]:
        for _ in range(_LIST_ATTEMPTS - 1):
            try:
                return await self._pages(selection, cached)
            except errors.HistoryLost:
                # The snapshot that the pages belong to was compacted between two of them.
                continue
        return await self._pages(selection, cached)

    async def _pages(self, selection: Selection, cached: bool) -> Listed[T]:
        request = v1.ListRequest(
            namespace=selection.namespace,
            label_selector=selection.label_selector,
            field_selector=selection.field_selector,
            resource_version=_version(cached),
        )
        items: list[T] = []
        while True:
            page = await self.connection.read(self._method("List"), request, self.kind.list_message)
            items.extend(page.items)
            following = getattr(page.metadata, "continue")
            if not following:
                return Listed(items, page.metadata.resource_version, page.metadata.epoch)
            setattr(request, "continue", following)


def _version(cached: bool) -> str:
    return "any" if cached else ""
