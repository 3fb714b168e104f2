"""YAML as manifests are written: text -> trees of dict, list, str, int, float, bool and None, with each field's line.

PyYAML parses, up to events; what they mean is decided here. Its YAML 1.1 would read `12:30:00` as 45000 and dates as
dates, and let the last of two equal keys win; its composer overflows the stack on deep nesting. The scalars are those
of YAML 1.2's core schema, and of YAML 1.1 what Kubernetes users rely on: yes/no/on/off as booleans, and 0644 as an
octal number like 0o644. Keys are text as written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from yaml.nodes import ScalarNode

from podwire import errors

_TAG: Final = "tag:yaml.org,2002:"
# Aliases can make a small text a huge tree; no manifest that fits a request (1.5 MiB) comes near this.
_MOST_VALUES: Final = 1_000_000
_DEEPEST: Final = 100

_SCALARS: Final[tuple[tuple[str, str, str], ...]] = (
    # name, pattern, first characters
    ("null", r"~|null|Null|NULL|", "~nN"),
    (
        "bool",
        r"true|True|TRUE|false|False|FALSE|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF",
        "tTfFyYnNoO",
    ),
    ("int", r"[-+]?[0-9]+|[-+]?0o[0-7]+|[-+]?0x[0-9a-fA-F]+|[-+]?0b[01]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", "<<", "<"),
)

_RESOLVERS: Final[Mapping[str, list[tuple[str, re.Pattern[str]]]]] = {
    first: [(name, re.compile(pattern)) for name, pattern, firsts in _SCALARS if first in firsts]
    for first in {first for _, _, firsts in _SCALARS for first in firsts}
}

# libyaml's parser and emitter where PyYAML was built with them: ten times as fast.
_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BaseDumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Dumper(_BaseDumper):  # type: ignore[misc]  # which class it is depends on how PyYAML was built
    """Quotes what either YAML 1.1 (other programs) or the loader here would take for something else than text."""


for _name, _pattern, _firsts in _SCALARS:
    _Dumper.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), list(_firsts))


@dataclass(frozen=True, slots=True)
class Part:
    """One document of a file: its tree, the line it begins at, and the line of each path in it."""

    tree: Any
    line: int
    lines: Mapping[str, int] = field(default_factory=dict)


def load(text: str, source: str = "") -> list[Part]:
    """The documents in `text` (YAML or JSON), without the empty ones. Raises Invalid with source and line."""
    if text.lstrip()[:1] in ("{", "["):
        # JSON is YAML but for the way it escapes characters beyond the first plane, and here it is parsed faster.
        try:
            return [Part(json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant), 1)]
        except (ValueError, RecursionError):
            pass
    try:
        return [part for part in _Reader(text, source).parts() if part.tree is not None]
    except yaml.MarkedYAMLError as error:
        problem = " ".join(part for part in (error.context, error.problem) if part)
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise _invalid(source, line, f"not valid YAML: {problem} (line {line}, column {column})") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _invalid(source, line, f"not valid YAML: {error.reason}") from None


def dump(trees: list[Any]) -> str:
    """`trees` as YAML documents, in the order of their keys, with kubectl's layout."""
    return str(
        yaml.dump_all(
            trees,
            Dumper=_Dumper,
            default_flow_style=False,
            sort_keys=False,
            allow_unicode=True,
            width=2**31 - 1,
            explicit_start=len(trees) > 1,
        )
    )


def _represent_text(dumper: Any, text: str) -> ScalarNode:
    """Several lines as a block, which a person can read and edit."""
    node: ScalarNode = dumper.represent_scalar(_TAG + "str", text, style="|" if "\n" in text else None)
    return node


_Dumper.add_representer(str, _represent_text)


def where(source: str, line: int) -> str:
    """`web.yaml:12`, or `line 12` of a text that has no name."""
    return f"{source}:{line}" if source else f"line {line}"


def _invalid(source: str, line: int, problem: str) -> errors.Invalid:
    return errors.Invalid(f"{where(source, line)}: {problem}")


class _Reader:
    """Events -> trees, noting the line of every path."""

    def __init__(self, text: str, source: str) -> None:
        self._events = _Parser(text)
        self._source = source
        self._lines: dict[str, int] = {}
        # anchor -> its tree, and how many values that has when written out.
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._values = 0

    def parts(self) -> Iterator[Part]:
        try:
            while (event := self._events.get_event()) is not None:
                if isinstance(event, DocumentStartEvent):
                    yield self._part()
        finally:
            self._events.dispose()

    def _part(self) -> Part:
        self._lines, self._anchors, self._values = {}, {}, 0
        line = _line(self._events.peek_event())
        return Part(self._tree(self._events.get_event(), "", 0), line, self._lines)

    def _tree(self, event: Any, path: str, depth: int) -> Any:
        if depth > _DEEPEST:
            raise self._wrong(event, f"nested deeper than {_DEEPEST} levels")
        self._lines.setdefault(path, _line(event))
        before = self._values
        self._count(event, 1)
        match event:
            case AliasEvent():
                if event.anchor not in self._anchors:
                    raise self._wrong(event, f'no anchor "&{event.anchor}" comes before this alias')
                tree, values = self._anchors[event.anchor]
                self._count(event, values)
                return tree
            case MappingStartEvent():
                self._expect_tag(event, "map")
                tree = self._mapping(path, depth)
            case SequenceStartEvent():
                self._expect_tag(event, "seq")
                tree = self._sequence(path, depth)
            case _:
                tree = self._scalar(event)
        if event.anchor:
            self._anchors[event.anchor] = tree, self._values - before
        return tree

    def _count(self, event: Any, values: int) -> None:
        self._values += values
        if self._values > _MOST_VALUES:
            raise self._wrong(event, f"aliases make this larger than {_MOST_VALUES} values")

    def _sequence(self, path: str, depth: int) -> list[Any]:
        tree: list[Any] = []
        while not isinstance(event := self._events.get_event(), SequenceEndEvent):
            tree.append(self._tree(event, f"{path}[{len(tree)}]", depth + 1))
        return tree

    def _mapping(self, path: str, depth: int) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        first: dict[str, int] = {}
        while not isinstance(event := self._events.get_event(), MappingEndEvent):
            if not isinstance(event, ScalarEvent):
                raise self._wrong(event, "a key must be text")
            if _tag(event) == "merge":
                self._merge(path, depth, merged)
                continue
            key = event.value
            if key in first:
                raise self._wrong(event, f'the key "{key}" is there twice, first on line {first[key]}')
            first[key] = _line(event)
            inner = f"{path}.{key}" if path else key
            self._lines[inner] = _line(event)
            tree[key] = self._tree(self._events.get_event(), inner, depth + 1)
        return {**merged, **tree}

    def _merge(self, path: str, depth: int, into: dict[str, Any]) -> None:
        """`<<: *base` or `<<: [*base, *other]`: of equal keys the first counts, and the mapping's own most."""
        event = self._events.get_event()
        tree = self._tree(event, path, depth + 1)
        for source in tree if isinstance(tree, list) else [tree]:
            if not isinstance(source, dict):
                raise self._wrong(event, "only a mapping can be merged with <<")
            for key, value in source.items():
                into.setdefault(key, value)

    def _scalar(self, event: Any) -> Any:
        tag = _tag(event)
        convert = _CONVERSIONS.get(tag)
        if convert is None:
            raise self._unknown_tag(event, tag)
        try:
            return convert(event.value)
        except (ValueError, KeyError):
            raise self._wrong(event, f'"{event.value}" is not what its tag says, {tag}') from None

    def _expect_tag(self, event: Any, expected: str) -> None:
        if event.tag not in (None, "!", _TAG + expected):
            raise self._unknown_tag(event, event.tag.removeprefix(_TAG))

    def _unknown_tag(self, event: Any, tag: str) -> errors.Invalid:
        return self._wrong(event, f'the tag "{tag}" has no meaning here')

    def _wrong(self, event: Any, problem: str) -> errors.Invalid:
        return _invalid(self._source, _line(event), problem)


def _tag(event: Any) -> str:
    """str, null, bool, int, float or merge; what else an explicit tag says."""
    if event.tag is not None and event.tag != "!":
        tag: str = event.tag.removeprefix(_TAG)
        return tag
    plain = event.implicit[0]
    if not plain:
        return "str"
    text = event.value
    if not text:
        return "null"
    return next((name for name, pattern in _RESOLVERS.get(text[0], ()) if pattern.fullmatch(text)), "str")


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _integer(text: str) -> int:
    sign = -1 if text.startswith("-") else 1
    digits = text.lstrip("+-")
    if re.fullmatch(r"0[0-7]+", digits):
        return sign * int(digits, 8)
    return sign * int(digits, 0 if digits[:2] in ("0o", "0x", "0b") else 10)


def _float(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


_BOOLEANS: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_CONVERSIONS: Final[Mapping[str, Callable[[str], Any]]] = {
    "str": str,
    "null": lambda text: None,
    "bool": lambda text: _BOOLEANS[text.lower()],
    "int": _integer,
    "float": _float,
}


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        raise ValueError("a key is there twice")
    return tree


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
