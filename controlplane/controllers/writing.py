"""Writes that controllers make many of: several at once, and deletions of what may be gone already."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

from podwire import errors
from podwire.client import KindClient
from podwire.keys import Object

T = TypeVar("T")

# Writes on their way at a time for one key; the API has other clients.
_AT_ONCE: Final = 16


async def each(items: Iterable[T], write: Callable[[T], Awaitable[Any]]) -> None:
    """`write` for every item, several at once. All are tried; then the first error, if any, is raised."""
    limit = asyncio.Semaphore(_AT_ONCE)

    async def limited(item: T) -> None:
        async with limit:
            await write(item)

    outcomes = await asyncio.gather(*(limited(item) for item in items), return_exceptions=True)
    raise_first(outcomes)


def raise_first(outcomes: Sequence[object]) -> None:
    """The loss of the election before anything else."""
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    for failure in sorted(failures, key=lambda failure: not isinstance(failure, errors.Fenced)):
        raise failure


async def may_adopt(client: KindClient[Any], owner: Object) -> bool:
    """Whether `owner` is there now and not being deleted: an informer may have yet to hear of it.

    Who takes objects in for an owner that lets them go would undo its deletion's work.
    """
    try:
        found = await client.get(owner.metadata.name, namespace=owner.metadata.namespace)
    except errors.NotFound:
        return False
    return found.metadata.uid == owner.metadata.uid and not found.metadata.HasField("deletion_timestamp")


async def delete(client: KindClient[Any], obj: Object, *, policy: str = "", unchanged: bool = False) -> None:
    """Deletes exactly this object, by uid; that it is gone or replaced already is as good.

    With `unchanged` it raises Conflict where the object is not in this state any more.
    """
    meta = obj.metadata
    try:
        await client.delete(
            meta.name,
            namespace=meta.namespace,
            uid=meta.uid,
            resource_version=meta.resource_version if unchanged else "",
            propagation_policy=policy,
        )
    except (errors.NotFound, errors.PreconditionFailed):
        pass  # Another of the same name is not ours to delete.
