"""The verbs of one kind, as typed methods. What a verb is called on the wire comes from the table of kinds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass
from typing import Any, Final, Generic, Self, TypeVar
from urllib.parse import unquote

from google.protobuf.message import Message

from podwire import errors, v1
from podwire.client.connection import Connection
from podwire.client.retrying import RetryPolicy, persist
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
    """Every method raises `podwire.errors` and nothing else. What is sent again after an error says the policy."""

    def __init__(self, connection: Connection, kind: Kind, retry: RetryPolicy | None = None) -> None:
        self.kind = kind
        self.connection = connection
        self.retry = retry or connection.settings.retry

    def with_retry(self, retry: RetryPolicy) -> Self:
        """The same, with another policy: `client.pods.with_retry(RetryPolicy.NEVER).get("web")`."""
        other = copy(self)
        other.retry = retry
        return other

    async def create(self, obj: T, *, field_manager: str = "", dry_run: bool = False) -> T:
        request = self.kind.create_request(object=obj, field_manager=field_manager, dry_run=dry_run)
        return await self._write("Create", request)

    async def get(self, name: str, *, namespace: str = "", cached: bool = False, resource_version: str = "") -> T:
        """The object now; with `cached`, as the replica's cache has it, without a round trip to etcd.

        With a `resource_version`, in a state that is not older than that.
        """
        request = v1.GetRequest(namespace=namespace, name=name, resource_version=_version(cached, resource_version))
        found: T = await self.connection.read(self._method("Get"), request, self.kind.message, self.retry)
        return found

    async def list(
        self,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        cached: bool = False,
        resource_version: str = "",
        exact: bool = False,
    ) -> Listed[T]:
        """All objects that the selectors name, of all namespaces where none is given: now, or as the cache has them.

        With a `resource_version`, in a state that is not older than that, or with `exact` in that very state, which
        raises HistoryLost where it is not kept any more.
        """
        selection = Selection(namespace, label_selector, field_selector)
        version = _version(cached, resource_version)
        return await self._list(selection, version, "Exact" if exact else "")

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

    async def update(self, obj: T, *, field_manager: str = "", dry_run: bool = False) -> T:
        """Replaces the object, status apart; a stale `metadata.resourceVersion` raises Conflict."""
        request = self.kind.update_request(object=obj, field_manager=field_manager, dry_run=dry_run)
        return await self._write("Update", request)

    async def update_status(self, obj: T, *, dry_run: bool = False) -> T:
        return await self._write("UpdateStatus", self.kind.update_request(object=obj, dry_run=dry_run))

    async def modify(
        self,
        name: str,
        change: Callable[[T], object],
        *,
        namespace: str = "",
        status: bool = False,
        field_manager: str = "",
        attempts: int = 10,
    ) -> T:
        """Reads the object, lets `change` alter it, and writes it; with `status` nothing but its status.

        Where somebody else wrote in between, all of that again, `attempts` times at most; then it raises Conflict. What
        `change` leaves as it is is not written. A write of which nobody knows whether it happened is not repeated, as
        `change` might be made twice.
        """
        backoff = self.retry.backoff()
        for attempt in range(1, attempts + 1):
            found = await self.get(name, namespace=namespace)
            changed = deepcopy(found)
            change(changed)
            if changed == found:
                return found
            try:
                if status:
                    return await self.update_status(changed)
                return await self.update(changed, field_manager=field_manager)
            except errors.Conflict:
                if attempt == attempts:
                    raise
            await asyncio.sleep(backoff.next())
        raise ValueError(f"modify needs at least one attempt, not {attempts}")

    async def create_or_get(self, obj: T, *, field_manager: str = "") -> T:
        """Creates the object, or gives the one that has its name already.

        It can be done twice without harm, and so is tried again while patience lasts, also where an answer was lost.
        """
        if not obj.metadata.name:
            raise ValueError("create_or_get needs an object with a name: a generated one is another each time")

        async def attempt() -> T:
            while True:
                try:
                    return await self.create(obj, field_manager=field_manager)
                except errors.AlreadyExists:
                    pass
                try:
                    return await self.get(obj.metadata.name, namespace=obj.metadata.namespace)
                except errors.NotFound:
                    pass  # Somebody deleted it in between.

        return await persist(self.retry, attempt, write=False)

    async def patch(
        self,
        name: str,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        namespace: str = "",
        subresource: str = "",
        field_manager: str = "",
        dry_run: bool = False,
    ) -> T:
        """Changes some fields: a mapping is a JSON merge patch (RFC 7386), a list a JSON patch (RFC 6902).

        A merge patch that has `metadata.resourceVersion` or `metadata.uid` is refused where the object has another.
        """
        request = v1.PatchRequest(
            namespace=namespace,
            name=name,
            type="merge" if isinstance(patch, Mapping) else "json",
            patch=json.dumps(patch).encode(),
            subresource=subresource,
            field_manager=field_manager,
            dry_run=dry_run,
        )
        return await self._write("Patch", request)

    async def apply(
        self,
        manifest: Mapping[str, Any],
        *,
        namespace: str = "",
        field_manager: str = "podctl",
        force: bool = False,
        dry_run: bool = False,
    ) -> Applied[T]:
        """Merges the manifest (a tree, as `podwire.manifest.load` gives) into the object, or creates it.

        Raises FieldConflict where it would change fields that other managers own, unless `force` takes them over.
        """
        request = v1.ApplyRequest(
            manifest=json.dumps(manifest).encode(),
            namespace=namespace,
            field_manager=field_manager,
            force=force,
            dry_run=dry_run,
        )
        obj, trailers = await self.connection.write_with_trailers(
            self._method("Apply"), request, self.kind.message, self.retry
        )
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
        propagation_policy: str = "",
        dry_run: bool = False,
    ) -> T:
        """Deletes the object, if it still has `uid` and `resource_version` where these are given.

        `propagation_policy` says what becomes of what it owns: Background (the default), Foreground or Orphan. The
        answer is the object as it was, or as it is while its deletion goes on (a pod that is being stopped).
        """
        request = v1.DeleteRequest(
            namespace=namespace,
            name=name,
            uid=uid,
            resource_version=resource_version,
            grace_period_seconds=grace_period_seconds,
            propagation_policy=propagation_policy,
            dry_run=dry_run,
        )
        return await self._write("Delete", request)

    async def delete_collection(
        self,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        grace_period_seconds: int | None = None,
        propagation_policy: str = "",
        dry_run: bool = False,
    ) -> Sequence[v1.DeletedObject]:
        """Deletes all objects that the selectors name, of all namespaces where none is given."""
        request = v1.DeleteCollectionRequest(
            namespace=namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            grace_period_seconds=grace_period_seconds,
            propagation_policy=propagation_policy,
            dry_run=dry_run,
        )
        method = self._method("DeleteCollection")
        answer: v1.DeleteCollectionResponse = await self.connection.write(
            method, request, v1.DeleteCollectionResponse, self.retry
        )
        return answer.items

    def _method(self, verb: str) -> str:
        return f"/{self.kind.service}/{verb}"

    async def _write(self, verb: str, request: Message) -> T:
        written: T = await self.connection.write(self._method(verb), request, self.kind.message, self.retry)
        return written

    async def _list(self, selection: Selection, version: str = "", match: str = "") -> Listed[T]:
        for _ in range(_LIST_ATTEMPTS - 1):
            try:
                return await self._pages(selection, version, match)
            except errors.HistoryLost:
                if match:
                    raise
                # The snapshot that the pages belong to was compacted between two of them.
                continue
        return await self._pages(selection, version, match)

    async def _pages(self, selection: Selection, version: str, match: str) -> Listed[T]:
        request = v1.ListRequest(
            namespace=selection.namespace,
            label_selector=selection.label_selector,
            field_selector=selection.field_selector,
            resource_version=version,
            resource_version_match=match,
        )
        items: list[T] = []
        while True:
            page = await self.connection.read(self._method("List"), request, self.kind.list_message, self.retry)
            items.extend(page.items)
            following = getattr(page.metadata, "continue")
            if not following:
                return Listed(items, page.metadata.resource_version, page.metadata.epoch)
            setattr(request, "continue", following)


def _version(cached: bool, resource_version: str) -> str:
    return "any" if cached else resource_version
