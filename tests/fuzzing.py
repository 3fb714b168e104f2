"""Inputs that nobody meant: messages made up from their descriptors, and valid ones with damage done to them.

Everything comes from one random.Random, so that a seed names a whole run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

TEXTS: Final[Sequence[str]] = (
    *(
        "",
        "a",
        "b",
        "web",
        "default",
        "ns1",
        "ns2",
        "any",
        "0",
        "1",
        "-1",
        "5",
        "1e9",
        "99999999999999999999999",
        "NaN",
    ),
    *(
        "A",
        "a_b",
        "a.b",
        "a/b",
        "a//b",
        "../..",
        ".",
        "/",
        "-",
        "é",
        "\U0001f642",
        "\x00",
        "\n",
        " ",
        "\u202e",
        "a\x7fb",
    ),
    *("x" * 63, "x" * 64, "x" * 254, "y" * 5_000, "%s%n", "{}", "[]", "null", "true", "${HOME}", "a=b,c in (d,e),!f"),
    *("((((", "a in (", "metadata.name=a", "spec.nodeName!=", "=", ",", "10.96.0.7", "10.244.1.0/24", "80", "http"),
    *("TCP", "UDP", "ClusterIP", "NodePort", "None", "ExternalName", "Always", "Never", "100m", "1Gi", "-1Gi", "1e400"),
    *("merge", "json", "status", "Exact", "NotOlderThan", "Foreground", "Orphan", "docker.io/library/busybox:1"),
)
NUMBERS: Final[Sequence[int]] = (
    0,
    1,
    -1,
    2,
    7,
    80,
    30_080,
    65_535,
    65_536,
    2**31 - 1,
    -(2**31),
    2**53,
    2**63 - 1,
    -(2**63),
)
_DEEPEST: Final = 7


class Fuzzer:
    def __init__(self, random: Random) -> None:
        self.random = random

    def text(self) -> str:
        if self.random.random() < 0.9:
            return self.random.choice(TEXTS)
        return "".join(chr(self.random.choice((97, 45, 46, 47, 0, 233, 0x4E00, 0x1F642))) for _ in range(8))

    def number(self, bits: int) -> int:
        number = self.random.choice(NUMBERS)
        limit = 1 << (bits - 1)
        return number if -limit <= number < limit else self.random.randrange(-limit, limit)

    def json(self, depth: int = 0) -> Any:
        """Any JSON value."""
        kind = self.random.randrange(8 if depth < 5 else 6)
        match kind:
            case 0 | 1 | 2:
                return self.text()
            case 3:
                return self.random.choice((*NUMBERS, 1.5, 1e300, 10**30))
            case 4:
                return None
            case 5:
                return self.random.random() < 0.5
            case 6:
                return [self.json(depth + 1) for _ in range(self.random.randrange(4))]
            case _:
                return {self.text(): self.json(depth + 1) for _ in range(self.random.randrange(4))}

    def message(self, descriptor: Descriptor, density: float = 0.3) -> Any:
        """A message of that type with some of its fields."""
        made: Any = GetMessageClass(descriptor)()
        self._fill(made, density, 0)
        return made

    def damaged(self, message: Any) -> Any:
        """`message` with a few fields, at any depth, made up anew or cleared."""
        copy = type(message)()
        copy.CopyFrom(message)
        for _ in range(self.random.randrange(1, 4)):
            self._damage(copy, 0)
        return copy

    def bytes(self, data: bytes) -> bytes:
        """`data` with a few bytes changed, cut, doubled or put in."""
        damaged = bytearray(data)
        for _ in range(self.random.randrange(1, 6)):
            place = self.random.randrange(len(damaged) + 1)
            end = min(len(damaged), place + self.random.choice((1, 1, 2, 8, 64)))
            match self.random.randrange(4):
                case 0:
                    damaged[place:end] = self.random.randbytes(end - place)
                case 1:
                    del damaged[place:end]
                case 2:
                    damaged[place:place] = damaged[place:end]
                case _:
                    damaged[place:place] = self.random.choice(
                        (b"\xff" * 10, b"\x00", b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x80")
                    )
        return bytes(damaged)

    def document(self, text: str) -> str:
        """A manifest's text with lines or characters moved, lost, doubled or made up."""
        lines = text.splitlines()
        for _ in range(self.random.randrange(1, 5)):
            place = self.random.randrange(len(lines)) if lines else 0
            match self.random.randrange(8):
                case 0:
                    del lines[place : place + self.random.randrange(1, 3)]
                case 1:
                    lines[place:place] = lines[place : place + self.random.randrange(1, 4)]
                case 2:
                    lines.insert(place, " " * self.random.randrange(12) + self._yaml())
                case 3 if lines:
                    lines[place] = "  " * self.random.randrange(4) + lines[place]
                case 4 if lines:
                    lines[place] = lines[place].lstrip()
                case 5 if lines:
                    key, colon, _ = lines[place].partition(":")
                    lines[place] = f"{key}{colon} {self._yaml()}"
                case 6 if lines:
                    lines[place] = self._character(lines[place])
                case _:
                    self.random.shuffle(lines)
        return "\n".join(lines)

    def _yaml(self) -> str:
        special = (
            "&a",
            "*a",
            "<<: *a",
            "!!int x",
            "!!binary =",
            "? [a]",
            "- - - -",
            "{a: [b, {c: d}]}",
            "|",
            ">-",
            "---",
            "...",
        )
        odd = (
            "\t",
            "'",
            '"',
            "\x00",
            "\ufeff",
            "\ud7ff",
            "0x",
            "0o9",
            ".inf",
            "2001-01-01",
            "[" * 200,
            "{a: " * 150,
            "%YAML 9.9",
        )
        value = self.random.randrange(3)
        if value == 0:
            return self.random.choice(special)
        return (
            self.random.choice(odd) if value == 1 else json.dumps(self.json(), ensure_ascii=self.random.random() < 0.5)
        )

    def _character(self, line: str) -> str:
        place = self.random.randrange(len(line) + 1)
        return (
            line[:place]
            + self.random.choice(":-#&*!|>'\"%@`{}[], \t\u2028\x01a")
            + line[place + self.random.randrange(2) :]
        )

    def _fill(self, message: Any, density: float, depth: int) -> None:
        for field in message.DESCRIPTOR.fields:
            if self.random.random() < density:
                self._set(message, field, density, depth)

    def _damage(self, message: Any, depth: int) -> None:
        fields = list(message.DESCRIPTOR.fields)
        if not fields:
            return
        held = [field for field, _ in message.ListFields()]
        field = self.random.choice(held if held and self.random.random() < 0.7 else fields)
        inner = getattr(message, field.name) if field.message_type is not None and not field.is_repeated else None
        if inner is not None and self.random.random() < 0.7:
            self._damage(inner, depth + 1)
        elif (
            field.is_repeated
            and not _is_map(field)
            and field.message_type is not None
            and len(getattr(message, field.name))
        ):
            self._damage(self.random.choice(getattr(message, field.name)), depth + 1)
        elif self.random.random() < 0.2:
            message.ClearField(field.name)
        else:
            self._set(message, field, 0.3, depth)

    def _set(self, message: Any, field: FieldDescriptor, density: float, depth: int) -> None:
        if depth > _DEEPEST:
            return
        if _is_map(field):
            self._set_map(getattr(message, field.name), field, density, depth)
        elif field.is_repeated:
            items = getattr(message, field.name)
            for _ in range(self.random.choice((1, 1, 2, 5))):
                if field.message_type is not None:
                    self._fill(items.add(), density, depth + 1)
                else:
                    items.append(self._scalar(field))
        elif field.message_type is not None:
            inner = getattr(message, field.name)
            inner.SetInParent()
            self._fill(inner, density, depth + 1)
        else:
            setattr(message, field.name, self._scalar(field))

    def _set_map(self, items: Any, field: FieldDescriptor, density: float, depth: int) -> None:
        assert field.message_type is not None
        value = field.message_type.fields_by_name["value"]
        for _ in range(self.random.choice((1, 3))):
            key = self.text()
            if value.message_type is not None:
                self._fill(items[key], density, depth + 1)
            else:
                items[key] = self._scalar(value)

    def _scalar(self, field: FieldDescriptor) -> Any:
        made: dict[int, Callable[[], Any]] = {
            FieldDescriptor.TYPE_STRING: self.text,
            FieldDescriptor.TYPE_BYTES: lambda: self.random.choice(
                (json.dumps(self.json()).encode(), self.random.randbytes(9))
            ),
            FieldDescriptor.TYPE_BOOL: lambda: self.random.random() < 0.5,
            FieldDescriptor.TYPE_INT32: lambda: self.number(32),
            FieldDescriptor.TYPE_INT64: lambda: self.number(64),
            FieldDescriptor.TYPE_UINT32: lambda: self.number(32) & 0xFFFFFFFF,
            FieldDescriptor.TYPE_UINT64: lambda: self.number(64) & 0xFFFFFFFFFFFFFFFF,
            FieldDescriptor.TYPE_DOUBLE: lambda: self.random.choice((0.0, -1.5, 1e300, float("inf"), float("nan"))),
            FieldDescriptor.TYPE_ENUM: lambda: 0,
        }
        return made[field.type]()


def reads_back(message: type[Message], data: bytes) -> Message | None:
    """What `data` is as a message; None where it is none."""
    try:
        return message.FromString(data)
    except DecodeError:
        return None


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry
