"""How kubectl writes what it means: `pod/web`, `deployment.apps/web`."""

from __future__ import annotations

from podwire.kinds import Kind


def resource(kind: Kind) -> str:
    """`pod`, or with the API group `deployment.apps`."""
    group, _, version = kind.api_version.partition("/")
    return f"{kind.singular}.{group}" if version else kind.singular


def qualified(kind: Kind, name: str) -> str:
    return f"{resource(kind)}/{name}"
