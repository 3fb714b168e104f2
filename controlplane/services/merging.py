"""Merges of manifests, on trees, where absent and empty differ: the heart of Apply. Pure functions.

What an apply sets is remembered as a tree of field names, in the form of Kubernetes' FieldsV1: `f:name` for a field or
the key of a map, `k:{…}` for an item of a list known by keys, `v:…` for an item of a set; a leaf is empty. With the
next apply, what was in that tree and is not in the new one is removed, unless another manager's tree has it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from controlplane.services.merge_schema import Shape, fields_of, item_key, message_type, replaces, shape_of

Tree = Mapping[str, Any]
# Names of FieldsV1 -> what is below.
FieldSet = Mapping[str, Any]


def merge(descriptor: Descriptor, live: Tree, applied: Tree) -> dict[str, Any]:
    """`live` with everything that `applied` sets."""
    kept = {name: live[name] for name in live if name in applied} if replaces(descriptor) else live
    merged = dict(kept)
    fields = fields_of(descriptor)
    for name, value in applied.items():
        merged[name] = _merge_value(fields[name], live[name], value) if name in live else value
    return merged


def _merge_value(field: FieldDescriptor, live: Any, applied: Any) -> Any:
    match shape_of(field):
        case Shape.MESSAGE:
            return merge(message_type(field), live, applied)
        case Shape.MAP:
            return {**live, **applied}
        case Shape.SET:
            return [*live, *(item for item in applied if item not in live)]
        case Shape.KEYED:
            return _merge_items(field, live, applied)
        case _:
            return applied


def _merge_items(field: FieldDescriptor, live: Sequence[Tree], applied: Sequence[Tree]) -> list[Any]:
    """The applied items in their order (that of init containers matters), then those that only others know."""
    before = {item_key(field, item): item for item in live}
    names = [item_key(field, item) for item in applied]
    if len(set(names)) < len(names):
        # Items that cannot be told apart are validation's to judge: the list is taken as it is.
        return list(applied)
    merged = [
        merge(message_type(field), before[name], item) if name in before else item
        for name, item in zip(names, applied, strict=True)
    ]
    return merged + [item for name, item in before.items() if name not in names]


def field_set(descriptor: Descriptor, tree: Tree) -> dict[str, Any]:
    """The fields that `tree` sets."""
    fields = fields_of(descriptor)
    return {f"f:{name}": _value_set(fields[name], value) for name, value in tree.items()}


def _value_set(field: FieldDescriptor, value: Any) -> dict[str, Any]:
    match shape_of(field):
        case Shape.MESSAGE:
            return field_set(message_type(field), value)
        case Shape.MAP:
            return {f"f:{key}": {} for key in value}
        case Shape.SET:
            return {_item_name(item): {} for item in value}
        case Shape.KEYED:
            return {item_key(field, item): {".": {}, **field_set(message_type(field), item)} for item in value}
        case _:
            return {}


def remove_gone(
    descriptor: Descriptor, tree: Tree, before: FieldSet, after: FieldSet, others: Iterable[FieldSet]
) -> dict[str, Any]:
    """`tree` without what stands in `before` and neither in `after` nor in any of `others`."""
    return _remove(descriptor, tree, before, [after, *others])


def _remove(descriptor: Descriptor, tree: Tree, before: FieldSet, wanted: Sequence[FieldSet]) -> dict[str, Any]:
    fields = fields_of(descriptor)
    left = dict(tree)
    for name, below in before.items():
        plain = name[2:]
        if not name.startswith("f:") or plain not in left or plain not in fields:
            continue
        still = [wish[name] for wish in wanted if name in wish]
        if not still:
            # With everything below it, defaults too: nobody wants it any more.
            del left[plain]
        elif below:
            left[plain] = _remove_value(fields[plain], left[plain], below, still)
    return left


def _remove_value(field: FieldDescriptor, value: Any, before: FieldSet, wanted: Sequence[FieldSet]) -> Any:
    match shape_of(field):
        case Shape.MESSAGE:
            return _remove(message_type(field), value, before, wanted)
        case Shape.MAP:
            return {key: item for key, item in value.items() if not _is_gone(f"f:{key}", before, wanted)}
        case Shape.SET:
            return [item for item in value if not _is_gone(_item_name(item), before, wanted)]
        case Shape.KEYED:
            return _remove_items(field, value, before, wanted)
        case _:
            return value


def _remove_items(
    field: FieldDescriptor, items: Sequence[Tree], before: FieldSet, wanted: Sequence[FieldSet]
) -> list[Any]:
    left: list[Any] = []
    for item in items:
        name = item_key(field, item)
        if _is_gone(name, before, wanted):
            continue
        still = [wish[name] for wish in wanted if name in wish]
        left.append(_remove(message_type(field), item, before.get(name, {}), still))
    return left


def _is_gone(name: str, before: FieldSet, wanted: Sequence[FieldSet]) -> bool:
    return name in before and not any(name in wish for wish in wanted)


def _item_name(item: Any) -> str:
    return "v:" + json.dumps(item)
