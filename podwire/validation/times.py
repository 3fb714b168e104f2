"""Times that a message can carry and nothing else can write down: protobuf takes any number of seconds."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from podwire.errors import FieldError

_TIMESTAMP: Final = "google.protobuf.Timestamp"
# 0001-01-01T00:00:00Z to 9999-12-31T23:59:59Z, as RFC 3339 has four digits for the year.
_FIRST_SECOND: Final = -62_135_596_800
_LAST_SECOND: Final = 253_402_300_799
_NANOS: Final = 1_000_000_000


def impossible_times(message: Any, path: str = "") -> Iterator[FieldError]:
    """Every Timestamp in `message` that is no time. Looks only where the type has one, so that most cost nothing."""
    for field in _fields_with_times(message.DESCRIPTOR):
        inner = f"{path}.{field.json_name}" if path else field.json_name
        if field.is_repeated:
            for number, item in enumerate(getattr(message, field.name)):
                yield from impossible_times(item, f"{inner}[{number}]")
        elif message.HasField(field.name):
            value = getattr(message, field.name)
            if value.DESCRIPTOR.full_name != _TIMESTAMP:
                yield from impossible_times(value, inner)
            elif not (_FIRST_SECOND <= value.seconds <= _LAST_SECOND and 0 <= value.nanos < _NANOS):
                yield FieldError(inner, "must be a time between the years 1 and 9999")


@cache
def _fields_with_times(descriptor: Descriptor) -> tuple[FieldDescriptor, ...]:
    return tuple(field for field in descriptor.fields if _has_time(field.message_type, frozenset()))


def _has_time(descriptor: Descriptor | None, seen: frozenset[str]) -> bool:
    if descriptor is None or descriptor.full_name in seen or descriptor.GetOptions().map_entry:
        return False
    if descriptor.full_name == _TIMESTAMP:
        return True
    return any(_has_time(field.message_type, seen | {descriptor.full_name}) for field in descriptor.fields)
