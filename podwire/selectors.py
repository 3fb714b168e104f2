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

IN: Final = "In"
NOT_IN: Final = "NotIn"
EXISTS: Final = "Exists"
DOES_NOT_EXIST: Final = "DoesNotExist"

_WORD = r"[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?"
_SET: Final = re.compile(rf"(?P<key>{_WORD})\s+(?P<operator>in|notin)\s*\((?P<values>[^()]*)\)")
_EQUALITY: Final = re.compile(rf"(?P<key>{_WORD})\s*(?P<operator>==|=|!=)\s*(?P<value>({_WORD})?)")
_EXISTENCE: Final = re.compile(rf"(?P<not>!?)\s*(?P<key>{_WORD})")
_VALUE: Final = re.compile(rf"({_WORD})?")


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
        return cls(tuple(_requirement(part, text) for part in _parts(text)))

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


def _parts(text: str) -> Iterator[str]:
    """Splits at the commas that are not between parentheses."""
    if not text.strip():
        return
    yield from (part.strip() for part in re.split(r",(?![^()]*\))", text))


def _requirement(part: str, text: str) -> Requirement:
    if match := _SET.fullmatch(part):
        values = [value.strip() for value in match["values"].split(",")]
        if all(_VALUE.fullmatch(value) for value in values):
            return Requirement(match["key"], IN if match["operator"] == "in" else NOT_IN, frozenset(values))
    elif match := _EQUALITY.fullmatch(part):
        return Requirement(match["key"], NOT_IN if match["operator"] == "!=" else IN, frozenset({match["value"]}))
    elif match := _EXISTENCE.fullmatch(part):
        return Requirement(match["key"], DOES_NOT_EXIST if match["not"] else EXISTS)
    raise errors.Invalid(
        f'label selector "{text}": "{part}" is not a condition: '
        "write key=value, key!=value, key in (a,b), key notin (a,b), key or !key"
    )


@dataclass(frozen=True, slots=True)
class _FieldTerm:
    path: str
    equal: bool
    value: str


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """Conditions on the fields that the table of kinds names."""

    kind: Kind
    terms: tuple[_FieldTerm, ...] = ()

    @classmethod
    def parse(cls, text: str, kind: Kind) -> FieldSelector:
        """From `spec.nodeName=n1,status.phase!=Failed`; Invalid says which part is wrong."""
        return cls(kind, tuple(_term(part, text, kind) for part in text.split(",") if part.strip()))

    def matches(self, obj: Any) -> bool:
        selectors = self.kind.selectors
        return all((selectors[term.path](obj) == term.value) is term.equal for term in self.terms)

    def exact(self, path: str) -> str | None:
        """The one value of `path` that is selected, or None: what an index can use."""
        return next((term.value for term in self.terms if term.equal and term.path == path), None)

    def __str__(self) -> str:
        return ",".join(f"{term.path}{'=' if term.equal else '!='}{term.value}" for term in self.terms)


def _term(part: str, text: str, kind: Kind) -> _FieldTerm:
    match = re.fullmatch(r"\s*([\w.]+)\s*(==|=|!=)\s*(.*?)\s*", part)
    if match is None:
        raise errors.Invalid(f'field selector "{text}": "{part}" is not path=value or path!=value')
    if match[1] not in kind.selectors:
        known = ", ".join(sorted(kind.selectors))
        raise errors.Invalid(
            f'field selector "{text}": {kind.plural} cannot be selected by "{match[1]}", only by {known}'
        )
    return _FieldTerm(match[1], match[2] != "!=", match[3])
