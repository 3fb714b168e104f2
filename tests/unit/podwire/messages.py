"""Hypothesis strategies for messages of any kind, from the descriptors."""

from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from hypothesis import strategies as st

from podwire import quantity
from podwire.kinds import Kind

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_QUANTITIES = st.sampled_from(["0", "1", "100m", "1.5Gi", "12e3", "2k"]).map(quantity.canonical)
_SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_STRING: _TEXT,
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=12),
}
_JSON = st.recursive(
    st.booleans() | st.integers(-(2**40), 2**40) | _TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_TEXT, inner, max_size=2),
    max_leaves=4,
)


def objects(kind: Kind) -> st.SearchStrategy[Any]:
    """Any message of `kind`, right or wrong, as long as its fields have values."""
    return st.composite(_message)(kind.message, 8)


def _message(draw: st.DrawFn, make: Callable[[], Any], depth: int) -> Any:
    message = make()
    fields = list(message.DESCRIPTOR.fields)
    # A few fields of many: every field comes up over the examples, and each example stays small.
    few = st.lists(st.sampled_from(fields), max_size=4, unique_by=lambda field: field.number)
    for field in draw(few) if depth and fields else ():
        _set(draw, message, field, depth)
    return message


def _set(draw: st.DrawFn, message: Any, field: FieldDescriptor, depth: int) -> None:
    if not field.is_repeated:
        if field.message_type is None:
            setattr(message, field.name, draw(_SCALARS[field.type]))
        else:
            getattr(message, field.name).SetInParent()
            _fill(draw, getattr(message, field.name), depth - 1)
        return
    count = draw(st.integers(1, 2))
    items = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        value = field.message_type.fields_by_name["value"]
        for key in draw(st.lists(_TEXT, max_size=count)):
            if value.message_type is None:
                items[key] = draw(_SCALARS[value.type])
            else:
                _fill(draw, items[key], depth - 1)
    elif field.message_type is not None:
        for _ in range(count):
            _fill(draw, items.add(), depth - 1)
    else:
        items.extend(draw(_SCALARS[field.type]) for _ in range(count))


def _fill(draw: st.DrawFn, message: Any, depth: int) -> None:
    match message.DESCRIPTOR.full_name:
        case "podwire.v1.Quantity":
            message.string = draw(_QUANTITIES)
        case "podwire.v1.IntOrString":
            if draw(st.booleans()):
                message.int = draw(_SCALARS[FieldDescriptor.TYPE_INT32])
            else:
                message.string = draw(_TEXT)
        case "google.protobuf.Timestamp":
            message.FromNanoseconds(draw(st.integers(0, 2**61)))
        case "google.protobuf.Struct":
            message.update(draw(st.dictionaries(_TEXT, _JSON, max_size=2)))
        case _:
            message.CopyFrom(_message(draw, type(message), depth))
