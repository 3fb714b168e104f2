"""Where things are in etcd: `/podwire/<plural>/<namespace>/<name>` for objects, and the few keys that are none."""

from __future__ import annotations

from typing import Final

from podwire import kinds
from podwire.keys import join_key
from podwire.kinds import Kind

PREFIX: Final = b"/podwire/"
# The random name of the store's history: written when the store is made, and anew when it is restored from a backup.
EPOCH: Final = b"/podwire/meta/epoch"
# Written where a reader needs proof that the cache has caught up and no other write gives it.
CLOCK: Final = b"/podwire/meta/clock"
# Hangs on the lease that new events get.
EVENT_LEASE: Final = b"/podwire/meta/event-lease"
# One key for each service address, node port and node's pod CIDR that is taken; the value names who has it.
ALLOCATIONS: Final = b"/podwire/allocations/"

_PLURALS: Final = {kind.plural: kind for kind in kinds.KINDS}


def object_key(kind: Kind, key: str) -> bytes:
    """The etcd key of the object that `key` names within its kind, as `podwire.keys` joins it."""
    return f"/podwire/{kind.plural}/{key}".encode()


def namespace_key(namespace: str) -> bytes:
    return object_key(kinds.NAMESPACE, namespace)


def namespace_prefix(kind: Kind, namespace: str) -> bytes:
    """What the etcd keys of all objects of `kind` in `namespace` begin with."""
    return object_key(kind, join_key(namespace, "")) if namespace else f"/podwire/{kind.plural}/".encode()


def parse(key: bytes) -> tuple[Kind, str] | None:
    """The kind and key of the object that an etcd key belongs to; None where it is no object's."""
    plural, _, rest = key[len(PREFIX) :].decode().partition("/")
    kind = _PLURALS.get(plural)
    return (kind, rest) if kind is not None and rest else None
