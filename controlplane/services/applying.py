"""Apply: what a manifest becomes on the server, given what is there and what its manager applied before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from google.protobuf.descriptor import Descriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp

from controlplane.services import lifecycle, merging
from podwire import errors, kinds, manifest, v1
from podwire.keys import join_key
from podwire.kinds import Kind

DEFAULT_MANAGER: Final = "podctl"
_APPLY: Final = "Apply"
_FIELDS_TYPE: Final = "FieldsV1"
# The rest of metadata is the server's, or names the object.
_APPLIED_METADATA: Final = ("labels", "annotations", "ownerReferences", "finalizers")


@dataclass(frozen=True, slots=True)
class Applied:
    """A manifest that was understood: which object it is, what it sets, and what it demands of the object there."""

    kind: Kind
    namespace: str
    name: str
    tree: Mapping[str, Any]
    manager: str
    uid: str
    resource_version: str

    @property
    def key(self) -> str:
        return join_key(self.namespace, self.name)


def read(kind: Kind, request: v1.ApplyRequest) -> Applied:
    """The manifest of a request; Invalid has everything that is wrong with it."""
    try:
        tree = json.loads(request.manifest)
    except (ValueError, RecursionError) as error:
        raise errors.Invalid(f"the manifest is not JSON: {error}") from None
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
        _applied_fields(kind, obj),
        request.field_manager or DEFAULT_MANAGER,
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
    _remember(obj, applied, merging.field_set(_descriptor(applied.kind), applied.tree), now)
    return obj


def merged_object(applied: Applied, current: Any, now: Timestamp) -> Any:
    """The next state of `current`: with what the manifest sets, without what it set before and no longer does."""
    kind, descriptor = applied.kind, _descriptor(applied.kind)
    lifecycle.check_preconditions(kind, current, uid=applied.uid, resource_version=applied.resource_version)
    after = merging.field_set(descriptor, applied.tree)
    before: Mapping[str, Any] = {}
    others = []
    for entry in current.metadata.managed_fields:
        if entry.operation == _APPLY and entry.fields_type == _FIELDS_TYPE:
            fields = _fields_tree(entry)
            if entry.manager == applied.manager:
                before = fields
            else:
                others.append(fields)
    live = manifest.to_tree(kind, current)
    for name in ("apiVersion", "kind", "status"):
        live.pop(name, None)
    # Struct has no place in a merge: the entries stay as they are.
    live["metadata"].pop("managedFields", None)
    merged = merging.merge(descriptor, live, applied.tree)
    new = manifest.from_tree(kind, merging.remove_gone(descriptor, merged, before, after, others))
    new.metadata.managed_fields.extend(current.metadata.managed_fields)
    lifecycle.prepare_update(kind, current, new)
    if after != before:
        _remember(new, applied, after, now)
    return new


def _applied_fields(kind: Kind, obj: Any) -> dict[str, Any]:
    """What a manifest sets, without what names the object."""
    tree = manifest.to_tree(kind, obj)
    metadata = tree.get("metadata", {})
    fields = {name: metadata[name] for name in _APPLIED_METADATA if name in metadata}
    for name in ("apiVersion", "kind", "metadata"):
        tree.pop(name, None)
    return {"metadata": fields, **tree} if fields else tree


def _remember(obj: Any, applied: Applied, fields: Mapping[str, Any], now: Timestamp) -> None:
    """Notes in the object what this manager has set."""
    entries = obj.metadata.managed_fields
    kept = [entry for entry in entries if entry.manager != applied.manager or entry.operation != _APPLY]
    own = v1.ManagedFieldsEntry(
        manager=applied.manager,
        operation=_APPLY,
        api_version=applied.kind.api_version,
        time=now,
        fields_type=_FIELDS_TYPE,
    )
    own.fields_v1.update(dict(fields))
    del entries[:]
    entries.extend([*kept, own])


def _descriptor(kind: Kind) -> Descriptor:
    return cast(Descriptor, kind.message.DESCRIPTOR)


def _fields_tree(entry: v1.ManagedFieldsEntry) -> Mapping[str, Any]:
    tree: Mapping[str, Any] = MessageToDict(entry.fields_v1)
    return tree
