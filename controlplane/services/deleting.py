"""Delete and DeleteCollection, for every kind: what deletion_plan says, written."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from controlplane.services import deletion_plan, lifecycle
from controlplane.services.callers import Fence
from controlplane.services.reading import Reader
from controlplane.services.writing import Demands, Writer, Written, now
from controlplane.store import keys
from controlplane.store.entries import Entry
from podwire import errors, kinds, v1
from podwire.keys import join_key
from podwire.kinds import Kind

# Deletions of one collection on their way at a time: enough for two full groups of commits.
_AT_ONCE: Final = 128


@dataclass(frozen=True, slots=True)
class _Deletion:
    """How the objects of one request are deleted."""

    writer: Writer
    kind: Kind
    options: deletion_plan.Options
    fence: Fence | None
    dry_run: bool

    async def delete(self, key: str, *, uid: str = "", resource_version: str = "") -> Written:
        at = now()

        def decide(current: Any) -> Any | None:
            lifecycle.check_preconditions(self.kind, current, uid=uid, resource_version=resource_version)
            return deletion_plan.plan(self.kind, current, self.options, at)

        empty = _contents(key) if self.kind is kinds.NAMESPACE else ()
        return await self.writer.change(self.kind, key, decide, Demands(self.fence, empty), dry_run=self.dry_run)


async def delete(writer: Writer, kind: Kind, request: v1.DeleteRequest, fence: Fence | None) -> Written:
    """The object as it was when it was removed, or as it is now that it is marked."""
    if not request.name:
        raise errors.Invalid("a delete needs a name")
    namespace = (request.namespace or lifecycle.DEFAULT_NAMESPACE) if kind.namespaced else ""
    deletion = _Deletion(writer, kind, _options(request), fence, request.dry_run)
    return await deletion.delete(
        join_key(namespace, request.name), uid=request.uid, resource_version=request.resource_version
    )


async def delete_collection(
    reader: Reader, writer: Writer, kind: Kind, request: v1.DeleteCollectionRequest, fence: Fence | None
) -> v1.DeleteCollectionResponse:
    """Everything that is selected at this moment. The first failure ends it; what vanishes by itself is none."""
    deletion = _Deletion(writer, kind, _options(request), fence, request.dry_run)
    selected = await reader.select(kind, request.namespace, request.label_selector, request.field_selector)
    response = v1.DeleteCollectionResponse()
    left = iter(selected)
    try:
        async with asyncio.TaskGroup() as owner:
            for number in range(min(_AT_ONCE, len(selected))):
                owner.create_task(_delete_each(deletion, left, response), name=f"delete {kind.plural} {number}")
    except ExceptionGroup as failed:
        # Not `except*`: some of Python's releases put what is raised in that into a group again.
        raise failed.exceptions[0] from None
    return response


async def _delete_each(deletion: _Deletion, left: Iterator[Entry], response: v1.DeleteCollectionResponse) -> None:
    for entry in left:
        meta = entry.message().metadata
        try:
            written = await deletion.delete(entry.key, uid=meta.uid)
        except errors.NotFound:
            continue
        except errors.PreconditionFailed:
            if deletion.writer.uid_of(deletion.kind, entry.key) == meta.uid:
                raise
            # Another object has its name by now.
            continue
        response.items.add(namespace=meta.namespace, name=meta.name, uid=meta.uid, removed=written.removed)


def _options(request: v1.DeleteRequest | v1.DeleteCollectionRequest) -> deletion_plan.Options:
    grace = request.grace_period_seconds if request.HasField("grace_period_seconds") else None
    return deletion_plan.Options(grace, request.propagation_policy)


def _contents(namespace: str) -> tuple[bytes, ...]:
    return tuple(keys.namespace_prefix(kind, namespace) for kind in kinds.KINDS if kind.namespaced)
