"""Merges of manifests, on trees, where absent and empty differ: the heart of Apply. Pure functions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from controlplane.services.field_sets import FieldSet, Path, field_step, item_step, with_parents
from controlplane.services.merge_schema import (
    Shape,
    fields_of,
    has_atomic_items,
    item_key,
    message_type,
    replaces,
    shape_of,
)

Tree = Mapping[str, Any]


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
    """The applied items in their order (that of init containers matters).

    Items that only others know stay behind the applied item that they followed, so that managers who apply in turn do
    not change each other's order, and with it the template of a deployment.
    """
    names = [item_key(field, item) for item in applied]
    wanted = set(names)
    if len(wanted) < len(names):
        # Items that cannot be told apart are validation's to judge: the list is taken as it is.
        return list(applied)
    before: dict[str, Tree] = {}
    followers: defaultdict[str | None, list[Tree]] = defaultdict(list)
    last: str | None = None
    for item in live:
        name = item_key(field, item)
        if name in wanted:
            before[name] = item
            last = name
        else:
            followers[last].append(item)
    merged: list[Any] = [*followers[None]]
    for name, item in zip(names, applied, strict=True):
        whole = name not in before or has_atomic_items(field)
        merged.append(item if whole else merge(message_type(field), before[name], item))
        merged += followers[name]
    return merged


def remove_gone(descriptor: Descriptor, tree: Tree, before: FieldSet, wanted: FieldSet) -> dict[str, Any]:
    """`tree` without what stands in `before` and not in `wanted`.

    A field of which nothing is wanted goes with everything below it, defaults too.
    """
    gone = with_parents(before) - with_parents(wanted)
    return _remove(descriptor, tree, (), gone) if gone else dict(tree)


def _remove(descriptor: Descriptor, tree: Tree, path: Path, gone: FieldSet) -> dict[str, Any]:
    fields = fields_of(descriptor)
    left: dict[str, Any] = {}
    for name, value in tree.items():
        below = (*path, field_step(name))
        if below not in gone:
            left[name] = _remove_value(fields[name], value, below, gone)
    return left


def _remove_value(field: FieldDescriptor, value: Any, path: Path, gone: FieldSet) -> Any:
    match shape_of(field):
        case Shape.MESSAGE:
            return _remove(message_type(field), value, path, gone)
        case Shape.MAP:
            return {key: item for key, item in value.items() if (*path, field_step(key)) not in gone}
        case Shape.SET:
            return [item for item in value if (*path, item_step(item)) not in gone]
        case Shape.KEYED:
            return _remove_items(field, value, path, gone)
        case _:
            return value


def _remove_items(field: FieldDescriptor, items: Sequence[Tree], path: Path, gone: FieldSet) -> list[Any]:
    left: list[Any] = []
    for item in items:
        below = (*path, item_key(field, item))
        if below in gone:
            continue
        left.append(item if has_atomic_items(field) else _remove(message_type(field), item, below, gone))
    return left
