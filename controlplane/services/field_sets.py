"""Sets of fields of an object: what a tree sets, what changed between two trees, and their form in managedFields.

A field is named by the steps that lead to it, which are those of Kubernetes' FieldsV1: `f:name` for a field or the key
of a map, `k:{…}` for an item of a list known by keys, `v:…` for an item of a set. A set holds what has a value of its
own (scalars, what is atomic, what is empty) and the items of keyed lists, not the messages on the way there. Sets of
steps rather than nested trees, because who owns what is then plain algebra of sets.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.struct_pb2 import Struct

from controlplane.services.merge_schema import (
    Shape,
    fields_of,
    has_atomic_items,
    item_key,
    message_type,
    shape_of,
)

Tree = Mapping[str, Any]
Path = tuple[str, ...]
FieldSet = frozenset[Path]

NOTHING: Final[FieldSet] = frozenset()
# Of a node of FieldsV1 that has others below it: it belongs to the set itself.
_ITSELF: Final = "."


def field_step(name: str) -> str:
    return f"f:{name}"


def item_step(item: Any) -> str:
    """The step to an item of a set."""
    return "v:" + json.dumps(item)


def fields_in(descriptor: Descriptor, tree: Tree) -> FieldSet:
    """The fields that `tree` sets."""
    return frozenset(_in_message(descriptor, tree, ()))


def _in_message(descriptor: Descriptor, tree: Tree, path: Path) -> Iterator[Path]:
    fields = fields_of(descriptor)
    for name, value in tree.items():
        yield from _in_value(fields[name], value, (*path, field_step(name)))


def _in_value(field: FieldDescriptor, value: Any, path: Path) -> Iterator[Path]:
    shape = shape_of(field)
    if shape is Shape.SCALAR or not value:
        yield path
    elif shape is Shape.MESSAGE:
        yield from _in_message(message_type(field), value, path)
    else:
        for step, item in _items(field, shape, value).items():
            yield (*path, step)
            yield from _in_item(field, shape, item, (*path, step))


def _in_item(field: FieldDescriptor, shape: Shape, item: Any, path: Path) -> Iterator[Path]:
    if shape is Shape.KEYED and not has_atomic_items(field):
        yield from _in_message(message_type(field), item, path)


def _items(field: FieldDescriptor, shape: Shape, value: Any) -> dict[str, Any]:
    """The items of a map, a set or a keyed list by the steps to them."""
    match shape:
        case Shape.MAP:
            return {field_step(key): item for key, item in value.items()}
        case Shape.SET:
            return {item_step(item): item for item in value}
        case _:
            return {item_key(field, item): item for item in value}


@dataclass(frozen=True, slots=True)
class Changes:
    """What a write does to fields: those that get a value or another one, and those that go."""

    changed: FieldSet
    removed: FieldSet

    @property
    def all(self) -> FieldSet:
        return self.changed | self.removed


def changes(descriptor: Descriptor, old: Tree, new: Tree) -> Changes:
    """What makes `new` of `old`. The order of items that have keys is nobody's."""
    changed: set[Path] = set()
    removed: set[Path] = set()
    _compare(descriptor, old, new, (), changed, removed)
    return Changes(frozenset(changed), frozenset(removed))


def _compare(descriptor: Descriptor, old: Tree, new: Tree, path: Path, changed: set[Path], removed: set[Path]) -> None:
    fields = fields_of(descriptor)
    for name in old.keys() | new.keys():
        field, below = fields[name], (*path, field_step(name))
        if name not in new:
            removed.update(_in_value(field, old[name], below))
        elif name not in old:
            changed.update(_in_value(field, new[name], below))
        elif old[name] != new[name]:
            _compare_values(field, old[name], new[name], below, changed, removed)


def _compare_values(
    field: FieldDescriptor, old: Any, new: Any, path: Path, changed: set[Path], removed: set[Path]
) -> None:
    shape = shape_of(field)
    if shape is Shape.SCALAR:
        changed.add(path)
        return
    if shape is Shape.MESSAGE:
        _compare(message_type(field), old, new, path, changed, removed)
        return
    before, after = _items(field, shape, old), _items(field, shape, new)
    for step in before.keys() | after.keys():
        below = (*path, step)
        if step not in after:
            removed.update((below, *_in_item(field, shape, before[step], below)))
        elif step not in before:
            changed.update((below, *_in_item(field, shape, after[step], below)))
        elif before[step] == after[step]:
            continue
        elif shape is Shape.KEYED and not has_atomic_items(field):
            _compare(message_type(field), before[step], after[step], below, changed, removed)
        else:
            changed.add(below)


def with_parents(fields: FieldSet) -> FieldSet:
    """`fields`, and everything on the way to them."""
    return frozenset(path[:length] for path in fields for length in range(1, len(path) + 1))


def to_fields_v1(fields: FieldSet) -> dict[str, Any]:
    """The tree that Kubernetes writes into managedFields."""
    tree: dict[str, Any] = {}
    for path in fields:
        _node(tree, path)
    for path in fields:
        if node := _node(tree, path):
            node[_ITSELF] = {}
    return tree


def _node(tree: dict[str, Any], path: Path) -> dict[str, Any]:
    """The node of `path` in a tree, made where it is missing."""
    for step in path:
        tree = tree.setdefault(step, {})
    return tree


def from_fields_v1(tree: Struct) -> FieldSet:
    """The set that such a tree stands for; what is no tree of fields gives what can be read of it."""
    return frozenset(_members(tree, ()))


def _members(tree: Struct, path: Path) -> Iterator[Path]:
    for step, value in tree.fields.items():
        below = value.struct_value
        if step == _ITSELF:
            yield path
        elif below.fields:
            yield from _members(below, (*path, step))
        else:
            yield (*path, step)


def describe(descriptor: Descriptor, path: Path) -> str:
    """A field as errors name it: `spec.containers[name=web].image`, `metadata.labels[app]`."""
    text = ""
    # What the next step is in: a message, or a field that has items; None: what the schema does not know.
    inside: Descriptor | FieldDescriptor | None = descriptor
    for step in path:
        kind, _, name = step.partition(":")
        if isinstance(inside, Descriptor) and name in fields_of(inside):
            text += f".{name}"
            field = fields_of(inside)[name]
            inside = message_type(field) if shape_of(field) is Shape.MESSAGE else field
        else:
            text += f"[{_item_name(kind, name)}]"
            if isinstance(inside, FieldDescriptor) and shape_of(inside) is Shape.KEYED:
                inside = message_type(inside)
            else:
                inside = None
    return text.removeprefix(".")


def _item_name(kind: str, name: str) -> str:
    if kind == "f":
        return name
    try:
        value = json.loads(name)
    except ValueError:
        return name
    return ",".join(f"{key}={part}" for key, part in value.items()) if isinstance(value, dict) else str(value)
