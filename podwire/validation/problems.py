"""The kinds of things that can be wrong with a field, in Kubernetes' words (k8s.io/apimachinery field.Error)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.message import Message

from podwire.errors import FieldError

Problems = Iterator[FieldError]


def required(path: str, detail: str = "") -> FieldError:
    return FieldError(path, f"Required value: {detail}" if detail else "Required value")


def invalid(path: str, value: Any, detail: str) -> FieldError:
    return FieldError(path, f"Invalid value: {_quoted(value)}: {detail}")


def unsupported(path: str, value: str, supported: Iterable[str]) -> FieldError:
    listed = ", ".join(f'"{name}"' for name in supported)
    return FieldError(path, f"Unsupported value: {_quoted(value)}: supported values: {listed}")


def duplicate(path: str, value: Any) -> FieldError:
    return FieldError(path, f"Duplicate value: {_quoted(value)}")


def forbidden(path: str, detail: str) -> FieldError:
    return FieldError(path, f"Forbidden: {detail}")


def not_found(path: str, value: str, detail: str) -> FieldError:
    return FieldError(path, f"Not found: {_quoted(value)}: {detail}")


def too_long(path: str, detail: str) -> FieldError:
    return FieldError(path, f"Too long: {detail}")


def one_of(path: str, value: str, supported: Iterable[str]) -> Problems:
    """`value` must be one of `supported`; an empty one is missing."""
    if not value:
        yield required(path, f"one of {', '.join(supported)}")
    elif value not in supported:
        yield unsupported(path, value, supported)


def between(path: str, value: int, least: int, most: int) -> Problems:
    if not least <= value <= most:
        yield invalid(path, value, f"must be between {least} and {most}, inclusive")


def at_least(path: str, value: int, least: int) -> Problems:
    if value < least:
        detail = "must be greater than or equal to 0" if least == 0 else f"must be greater than or equal to {least}"
        yield invalid(path, value, detail)


def unique(path: str, values: Iterable[tuple[str, Any]]) -> Problems:
    """Every value, given with the path below `path` that it is at, may be there once; empty ones do not count."""
    seen = set()
    for below, value in values:
        if value and value in seen:
            yield duplicate(f"{path}{below}", value)
        seen.add(value)


def fields_of(message: Message, *wanted: str) -> dict[str, Any]:
    """The fields that are set in `message`, of those `wanted` (all where none is given), by their manifest names."""
    present = {descriptor.json_name: value for descriptor, value in message.ListFields()}
    return {name: present[name] for name in wanted if name in present} if wanted else present


def _quoted(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 200 else f'"{value[:200]}…"'
    return str(value)
