"""Keys: the name of an object within its kind, `"namespace/name"`, or `"name"` where the kind has no namespaces.

Queues, informers and reconcilers handle keys and never events: what they do depends on what is.
"""

from __future__ import annotations

from typing import Protocol

from podwire import v1


class Object(Protocol):
    """Any object of the API: a message with metadata."""

    @property
    def metadata(self) -> v1.ObjectMeta: ...


def key_of(obj: Object) -> str:
    """The key of `obj`: `"default/web"`, or `"node1"` where it has no namespace."""
    return join_key(obj.metadata.namespace, obj.metadata.name)


def join_key(namespace: str, name: str) -> str:
    return f"{namespace}/{name}" if namespace else name


def split_key(key: str) -> tuple[str, str]:
    """The namespace (empty where there is none) and the name in `key`."""
    namespace, _, name = key.rpartition("/")
    return namespace, name
