"""`describe` of kinds without a describer of their own: the head, then the fields as they are in a manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from podctl.describing.page import annotation_lines, created, field, head, label_lines
from podwire import kinds, manifest
from podwire.kinds import Kind


def describe(kind: Kind, obj: Any) -> str:
    tree = manifest.to_tree(kind, obj)
    text = head(obj.metadata) + label_lines(obj.metadata) + annotation_lines(obj.metadata) + created(obj.metadata)
    if kind is kinds.NAMESPACE:
        return text + field("Status", obj.status.phase)
    if kind is kinds.SECRET:
        text += field("Type", obj.type)
        tree = {"data": {key: f"{len(value)} bytes" for key, value in sorted(obj.data.items())}}
    rest = {key: value for key, value in tree.items() if key not in ("apiVersion", "kind", "metadata")}
    if kind is kinds.CONFIG_MAP:
        rest["binaryData"] = {key: f"{len(value)} bytes" for key, value in sorted(obj.binary_data.items())}
    return text + _fields(rest, 0)


def _fields(tree: Mapping[str, Any], indent: int) -> str:
    return "".join(_field(_title(key) if indent == 0 else key, value, indent) for key, value in tree.items() if value)


def _field(name: str, value: Any, indent: int) -> str:
    margin = "  " * indent
    match value:
        case dict():
            return f"{margin}{name}:\n{_fields(value, indent + 1)}"
        case list() if all(not isinstance(item, dict | list) for item in value):
            return field(name, ", ".join(map(str, value)), indent=indent)
        case list():
            items = "".join(f"{margin}  -\n{_fields(item, indent + 2)}" for item in value)
            return f"{margin}{name}:\n{items}"
        case str() if "\n" in value:
            lines = "".join(f"{margin}  {line}\n" for line in value.rstrip("\n").split("\n"))
            return f"{margin}{name}:\n{lines}"
    return field(name, value, indent=indent)


def _title(name: str) -> str:
    """`addressType` as `Address Type`."""
    spaced = "".join(f" {letter}" if letter.isupper() else letter for letter in name)
    return spaced[:1].upper() + spaced[1:]
