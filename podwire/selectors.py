"""Selectors: which objects a list, a watch, a service or a controller means, by labels or by fields.

The notation is kubectl's. As in Kubernetes, `tier!=web` and `tier notin (web)` also select what has no label `tier`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from podwire import errors, v1
from podwire.kinds import Kind
from podwire.label_syntax import is_key, is_value

IN: Final = "In"
NOT_IN: Final = "NotIn"
EXISTS: Final = "Exists"
DOES_NOT_EXIST: Final = "DoesNotExist"

# The parts of a label selector: operators, and words in between; `in` and `notin` are words.
_TOKEN: Final = re.compile(r"\s*(?P<token>==|!=|[=!,()]|[^\s=!,()]+)\s*")
_WORDS: Final = re.compile(r"[^\s=!,()]+")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on a label; `operator` as in a manifest's matchExpressions."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        match self.operator:
            case "In":
                return self.key in labels and labels[self.key] in self.values
            case "NotIn":
                return self.key not in labels or labels[self.key] not in self.values
            case "Exists":
                return self.key in labels
            case _:
                return self.key not in labels

    def __str__(self) -> str:
        match self.operator:
            case "In" if len(self.values) == 1:
                return f"{self.key}={next(iter(self.values))}"
            case "In" | "NotIn":
                return f"{self.key} {self.operator.lower()} ({','.join(sorted(self.values))})"
            case "Exists":
                return self.key
            case _:
                return f"!{self.key}"


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """All requirements must hold; with none, everything is selected."""

    requirements: tuple[Requirement, ...] = ()

    @classmethod
    def parse(cls, text: str) -> LabelSelector:
        """From `app=web,tier in (a,b),!canary`; Invalid says which part is wrong."""
        try:
            return cls(tuple(_LabelReader(text).read()))
        except _Unreadable as error:
            raise errors.Invalid(
                f'label selector "{_shortened(text)}": {error}: '
                "write key=value, key!=value, key in (a,b), key notin (a,b), key or !key, joined by commas"
            ) from None

    @classmethod
    def from_message(cls, message: v1.LabelSelector) -> LabelSelector:
        """From a manifest's matchLabels and matchExpressions, which validation has accepted."""
        labels = [Requirement(key, IN, frozenset({value})) for key, value in sorted(message.match_labels.items())]
        expressions = [Requirement(e.key, e.operator, frozenset(e.values)) for e in message.match_expressions]
        return cls((*labels, *expressions))

    @classmethod
    def from_labels(cls, labels: Mapping[str, str]) -> LabelSelector:
        """Every one of `labels` with its value, as a service's selector has them."""
        return cls(tuple(Requirement(key, IN, frozenset({value})) for key, value in sorted(labels.items())))

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(requirement.matches(labels) for requirement in self.requirements)

    def __str__(self) -> str:
        return ",".join(str(requirement) for requirement in self.requirements)


class _Unreadable(ValueError):
    """A selector that cannot be read; the text says what is wrong with it."""


class _LabelReader:
    """Reads a selector from left to right, in time that grows with its length and no faster."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._next = 0

    def read(self) -> Iterator[Requirement]:
        while self._peek():
            yield self._requirement()
            if self._peek():
                self._expect(",")
                if not self._peek():
                    raise _Unreadable("a condition is missing after the last comma")

    def _requirement(self) -> Requirement:
        if self._peek() == "!":
            self._take()
            return Requirement(self._key(), DOES_NOT_EXIST)
        key = self._key()
        match self._peek():
            case "=" | "==":
                self._take()
                return Requirement(key, IN, frozenset({self._value()}))
            case "!=":
                self._take()
                return Requirement(key, NOT_IN, frozenset({self._value()}))
            case "in" | "notin" as operator:
                self._take()
                return Requirement(key, IN if operator == "in" else NOT_IN, frozenset(self._values()))
            case _:
                return Requirement(key, EXISTS)

    def _values(self) -> Iterator[str]:
        self._expect("(")
        yield self._value()
        while self._peek() == ",":
            self._take()
            yield self._value()
        self._expect(")")

    def _key(self) -> str:
        token = self._take()
        if not is_key(token):
            raise _Unreadable(f"{_quoted(token)} is not a label's key")
        return token

    def _value(self) -> str:
        """A word, or nothing, which is the empty value."""
        if not _WORDS.fullmatch(self._peek()):
            return ""
        token = self._take()
        if not is_value(token):
            raise _Unreadable(f"{_quoted(token)} is not a label's value")
        return token

    def _expect(self, wanted: str) -> None:
        token = self._take()
        if token != wanted:
            raise _Unreadable(f'{_quoted(token)} stands where "{wanted}" should')

    def _peek(self) -> str:
        """Empty at the end."""
        return self._tokens[self._next] if self._next < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        self._next += 1
        return token


def _tokens(text: str) -> list[str]:
    return [match["token"] for match in _TOKEN.finditer(text)]


def _quoted(token: str) -> str:
    return f'"{_shortened(token)}"' if token else "the end"


def _shortened(text: str) -> str:
    """As much of a selector as an error needs."""
    return text if len(text) <= 100 else f"{text[:100]}…"


# What stands between the commas; a backslash makes a comma, an equals sign or a backslash part of a value.
_FIELD_PART: Final = re.compile(r"(?:[^,\\]|\\.|\\$)+", re.DOTALL)
_FIELD_OPERATOR: Final = re.compile("(==|!=|=)")
_ESCAPED: Final = re.compile(r"\\([\\,=])")
_TO_ESCAPE: Final = re.compile(r"([\\,=])")


@dataclass(frozen=True, slots=True)
class _FieldTerm:
    path: str
    equal: bool
    value: str

    def __str__(self) -> str:
        escaped = _TO_ESCAPE.sub(r"\\\1", self.value)
        return f"{self.path}{'=' if self.equal else '!='}{escaped}"


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """Conditions on the fields that the table of kinds names."""

    kind: Kind
    terms: tuple[_FieldTerm, ...] = ()

    @classmethod
    def parse(cls, text: str, kind: Kind) -> FieldSelector:
        """From `spec.nodeName=n1,status.phase!=Failed`; Invalid says which part is wrong."""
        return cls(kind, tuple(_term(part, text, kind) for part in _FIELD_PART.findall(text) if part.strip()))

    def matches(self, obj: Any) -> bool:
        selectors = self.kind.selectors
        return all((selectors[term.path](obj) == term.value) is term.equal for term in self.terms)

    def exact(self, path: str) -> str | None:
        """The one value of `path` that is selected, or None: what an index can use."""
        return next((term.value for term in self.terms if term.equal and term.path == path), None)

    def __str__(self) -> str:
        return ",".join(map(str, self.terms))


def _term(part: str, text: str, kind: Kind) -> _FieldTerm:
    path, operator, value = _FIELD_OPERATOR.split(part, maxsplit=1) if "=" in part else ("", "", "")
    if not operator:
        raise errors.Invalid(
            f'field selector "{_shortened(text)}": "{_shortened(part)}" is not path=value or path!=value'
        )
    path = path.strip()
    if path not in kind.selectors:
        known = ", ".join(sorted(kind.selectors))
        raise errors.Invalid(
            f'field selector "{_shortened(text)}": {kind.plural} cannot be selected by "{_shortened(path)}", '
            f"only by {known}"
        )
    return _FieldTerm(path, operator != "!=", _ESCAPED.sub(r"\1", value.strip()))
