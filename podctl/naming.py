"""How kubectl writes what it means: `pod/web`, `deployment.apps/web`."""

from __future__ import annotations

from podwire.kinds import Kind


def resource(kind: Kind) -> str:
    """`pod`, or with the API group `deployment.apps`."""
    return _with_group(kind, kind.singular)


def resources(kind: Kind) -> str:
    """`pods`, `deployments.apps`."""
    return _with_group(kind, kind.plural)


def qualified(kind: Kind, name: str) -> str:
    return f"{resource(kind)}/{name}"


def _with_group(kind: Kind, word: str) -> str:
    group, _, version = kind.api_version.partition("/")
    return f"{word}.{group}" if version else word
