"""Apply: what a manifest becomes on the server, given what is there and what its manager applied before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from controlplane.services import field_ownership, field_sets, json_text, lifecycle, merging
from controlplane.services.field_ownership import Owner, Ownership, descriptor_of, tracked, tree_of
from controlplane.services.field_sets import Path
from podwire import errors, kinds, manifest, v1
from podwire.keys import join_key
from podwire.kinds import Kind

DEFAULT_MANAGER: Final = "podctl"


@dataclass(frozen=True, slots=True)
class Applied:
    """A manifest that was understood: which object it is, what it sets, and what it demands of the object there."""

    kind: Kind
    namespace: str
    name: str
    tree: Mapping[str, Any]
    owner: Owner
    force: bool
    uid: str
    resource_version: str

    @property
    def key(self) -> str:
        return join_key(self.namespace, self.name)


def read(kind: Kind, request: v1.ApplyRequest) -> Applied:
    """The manifest of a request; Invalid has everything that is wrong with it."""
    field_ownership.check_manager(request.field_manager)
    tree = json_text.parse(request.manifest, "the manifest")
    if not isinstance(tree, dict):
        raise errors.Invalid("the manifest must be an object with apiVersion, kind and metadata")
    obj = manifest.from_tree(kind, tree, ignore_status=True)
    meta = obj.metadata
    if not meta.name:
        raise errors.Invalid.fields(
            manifest.describe(kind, tree),
            [errors.FieldError("metadata.name", "is required: apply finds the object by its name")],
        )
    if request.namespace and meta.namespace and meta.namespace != request.namespace:
        raise errors.Invalid.fields(
            manifest.describe(kind, tree),
            [errors.FieldError("metadata.namespace", f"is {meta.namespace}, the request's is {request.namespace}")],
        )
    namespace = ""
    if kind.namespaced:
        namespace = meta.namespace or request.namespace or lifecycle.DEFAULT_NAMESPACE
    if kind is kinds.SECRET:
        # Text for those who write manifests; what is stored, and merged, is data.
        for key, text in obj.string_data.items():
            obj.data[key] = text.encode()
        obj.string_data.clear()
    return Applied(
        kind,
        namespace,
        meta.name,
        tracked(tree_of(kind, obj)),
        Owner(request.field_manager or DEFAULT_MANAGER, field_ownership.APPLY),
        request.force,
        meta.uid,
        meta.resource_version,
    )


def new_object(applied: Applied, now: Timestamp) -> Any:
    """The object that the manifest makes where there is none."""
    if applied.uid or applied.resource_version:
        raise errors.PreconditionFailed(
            f"{lifecycle.describe(applied.kind, applied.key)} does not exist, and the manifest names its uid or version"
        )
    obj = manifest.from_tree(applied.kind, applied.tree)
    obj.metadata.name = applied.name
    obj.metadata.namespace = applied.namespace
    ownership = Ownership(applied.kind)
    ownership.give(applied.owner, field_sets.fields_in(descriptor_of(applied.kind), applied.tree), now)
    field_ownership.write(obj, ownership)
    return obj


def merged_object(applied: Applied, current: Any, now: Timestamp) -> Any:
    """The next state of `current`: with what the manifest sets, without what it set before and no longer does.

    Raises FieldConflict where that would change what others own, unless it is forced.
    """
    kind, descriptor, owner = applied.kind, descriptor_of(applied.kind), applied.owner
    lifecycle.check_preconditions(kind, current, uid=applied.uid, resource_version=applied.resource_version)
    ownership = field_ownership.before_first_apply(kind, current, now)
    before, after = ownership.of(owner), field_sets.fields_in(descriptor, applied.tree)
    live = tree_of(kind, current)
    merged = merging.merge(descriptor, live, applied.tree)
    new = manifest.from_tree(kind, merging.remove_gone(descriptor, merged, before, after | ownership.besides(owner)))
    lifecycle.prepare_update(kind, current, new)
    changed = field_sets.changes(descriptor, tracked(live), tracked(tree_of(kind, new))).all
    conflicts = ownership.conflicts(owner, changed)
    if conflicts and not applied.force:
        raise _conflict(applied, conflicts)
    ownership.take(changed, now, but=owner)
    ownership.take_in_family(owner, after, now)
    ownership.give(owner, after, now)
    field_ownership.write(new, ownership)
    return new


def _conflict(applied: Applied, conflicts: Sequence[tuple[Path, Owner]]) -> errors.FieldConflict:
    descriptor = descriptor_of(applied.kind)
    owners = [errors.FieldOwner(field_sets.describe(descriptor, path), owner.manager) for path, owner in conflicts]
    what = lifecycle.describe(applied.kind, applied.key)
    listed = "; ".join(map(str, owners))
    return errors.FieldConflict(
        f"{what} was not applied, as it would change what other managers own: {listed}; "
        "leave these fields out of the manifest, or apply with force to take them over",
        owners,
        metadata={"kind": applied.kind.name, "key": applied.key},
    )
