"""Delete, for every kind: at once, or as a mark that others act upon."""

from __future__ import annotations

from typing import Any

from controlplane.services import lifecycle
from controlplane.services.callers import Fence
from controlplane.services.writing import Demands, Writer, Written, now
from controlplane.store import keys
from podwire import errors, kinds, v1
from podwire.keys import join_key
from podwire.kinds import Kind


async def delete(writer: Writer, kind: Kind, request: v1.DeleteRequest, fence: Fence | None) -> Written:
    """The object as it was when it was removed, or as it is now that it is marked."""
    if not request.name:
        raise errors.Invalid("a delete needs a name")
    namespace = (request.namespace or lifecycle.DEFAULT_NAMESPACE) if kind.namespaced else ""
    grace = request.grace_period_seconds if request.HasField("grace_period_seconds") else None
    at = now()

    def decide(current: Any) -> Any | None:
        lifecycle.check_preconditions(kind, current, uid=request.uid, resource_version=request.resource_version)
        return lifecycle.plan_deletion(kind, current, grace_period_seconds=grace, now=at)

    empty = _contents(request.name) if kind is kinds.NAMESPACE else ()
    return await writer.change(kind, join_key(namespace, request.name), decide, Demands(fence, empty))


def _contents(namespace: str) -> tuple[bytes, ...]:
    return tuple(keys.namespace_prefix(kind, namespace) for kind in kinds.KINDS if kind.namespaced)
