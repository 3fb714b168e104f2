"""Which objects a command line means: `pods`, `pod web`, `pod/web svc/web`, `pods,services`, `all`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from podctl.failures import CommandError, UsageError
from podwire import kinds
from podwire.kinds import Kind

# What kubectl's `all` has, of the kinds that there are.
_ALL: Final = (kinds.POD, kinds.SERVICE, kinds.DEPLOYMENT, kinds.REPLICA_SET)


@dataclass(frozen=True, slots=True)
class Target:
    """One object, or all of a kind where `name` is empty."""

    kind: Kind
    name: str = ""


def find_kind(word: str) -> Kind:
    """The kind of `po`, `deployments`, `deployment.apps`, `deployments.v1.apps`."""
    kind = kinds.find(word.split(".")[0])
    if kind is None:
        raise CommandError(f'there is no resource type "{word}" (podctl api-resources lists them)')
    return kind


def parse_targets(words: Sequence[str]) -> list[Target]:
    """Either `TYPE[,TYPE…] [NAME…]`, or only `TYPE/NAME…`."""
    if not words:
        raise UsageError("say which resources: a type such as pods, and names; or TYPE/NAME")
    if any("/" in word for word in words):
        return [_slashed(word) for word in words]
    types, names = words[0].split(","), words[1:]
    if types == ["all"]:
        if names:
            raise UsageError('"all" takes no names')
        return [Target(kind) for kind in _ALL]
    found = [find_kind(word) for word in types]
    return [Target(kind, name) for kind in found for name in (names or [""])]


def parse_target(word: str, default: Kind) -> Target:
    """`TYPE/NAME`, or the name of an object of the kind `default`."""
    return _slashed(word) if "/" in word else Target(default, word)


def _slashed(word: str) -> Target:
    type_, _, name = word.partition("/")
    if not type_ or not name or "/" in name:
        raise UsageError(f'"{word}" is not TYPE/NAME; types and names cannot be mixed with TYPE/NAME')
    return Target(find_kind(type_), name)
