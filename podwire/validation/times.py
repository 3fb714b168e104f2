"""Times that a message can carry and nothing else can write down: protobuf takes any number of seconds."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Final, NamedTuple

from google.protobuf.descriptor import Descriptor

from podwire.errors import FieldError

_TIMESTAMP: Final = "google.protobuf.Timestamp"
# 0001-01-01T00:00:00Z to 9999-12-31T23:59:59Z, as RFC 3339 has four digits for the year.
_FIRST_SECOND: Final = -62_135_596_800
_LAST_SECOND: Final = 253_402_300_799
_NANOS: Final = 1_000_000_000


def impossible_times(message: Any, path: str = "") -> Iterator[FieldError]:
    """Every Timestamp in `message` that is no time. Looks only where the type has one, so that most cost nothing."""
    for name, json_name, is_repeated, is_time in _fields_with_times(message.DESCRIPTOR):
        if is_repeated:
            for number, item in enumerate(getattr(message, name)):
                yield from impossible_times(item, f"{_below(path, json_name)}[{number}]")
        elif message.HasField(name):
            value = getattr(message, name)
            if not is_time:
                yield from impossible_times(value, _below(path, json_name))
            elif not (_FIRST_SECOND <= value.seconds <= _LAST_SECOND and 0 <= value.nanos < _NANOS):
                yield FieldError(_below(path, json_name), "must be a time between the years 1 and 9999")


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


class _Field(NamedTuple):
    """What is asked of a field with every request: a descriptor takes ten times as long to answer."""

    name: str
    json_name: str
    is_repeated: bool
    is_time: bool


@cache
def _fields_with_times(descriptor: Descriptor) -> tuple[_Field, ...]:
    return tuple(
        _Field(field.name, field.json_name, field.is_repeated, inner.full_name == _TIMESTAMP)
        for field in descriptor.fields
        if (inner := field.message_type) is not None and _has_time(inner, frozenset())
    )


def _has_time(descriptor: Descriptor | None, seen: frozenset[str]) -> bool:
    if descriptor is None or descriptor.full_name in seen or descriptor.GetOptions().map_entry:
        return False
    if descriptor.full_name == _TIMESTAMP:
        return True
    return any(_has_time(field.message_type, seen | {descriptor.full_name}) for field in descriptor.fields)
