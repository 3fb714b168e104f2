"""What becomes of an object that others own, decided from what has become of its owners. Pure.

The rules are Kubernetes' (pkg/controller/garbagecollector): an object goes when none of its owners is left, and what an
owner in foreground deletion waits for goes before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from podwire import v1
from podwire.keys import Object
from podwire.propagation import FOREGROUND, FOREGROUND_FINALIZER, ORPHAN_FINALIZER


class OwnerState(Enum):
    PRESENT = "present"
    # It is being deleted, and first waits for what it owns to go.
    WAITING = "waiting"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Keep:
    """It stays as it is."""


@dataclass(frozen=True, slots=True)
class Detach:
    """It stays, with no other owners than these."""

    owners: list[v1.OwnerReference]


@dataclass(frozen=True, slots=True)
class Delete:
    """It goes; an empty policy is what its own finalizers say, and else Background."""

    policy: str


Step = Keep | Detach | Delete


def step_for(owners: Sequence[v1.OwnerReference], states: Sequence[OwnerState], *, owns: bool) -> Step:
    """What to do with an object of these owners; `owns` says that it owns others itself."""
    present = [owner for owner, state in zip(owners, states, strict=True) if state is OwnerState.PRESENT]
    if present:
        return Keep() if len(present) == len(owners) else Detach(present)
    if OwnerState.WAITING in states and owns:
        return Delete(FOREGROUND)
    return Delete("")


def state_of(owner: Object) -> OwnerState:
    """Of an owner that exists."""
    return OwnerState.WAITING if is_waiting(owner) else OwnerState.PRESENT


def is_going(obj: Object) -> bool:
    return obj.metadata.HasField("deletion_timestamp")


def is_waiting(obj: Object) -> bool:
    """Whether it is being deleted and waits for what it owns to go first."""
    return is_going(obj) and FOREGROUND_FINALIZER in obj.metadata.finalizers


def is_orphaning(obj: Object) -> bool:
    """Whether it is being deleted and what it owns is to be let go first."""
    return is_going(obj) and ORPHAN_FINALIZER in obj.metadata.finalizers


def blocks(dependent: Object, owner_uid: str) -> bool:
    """Whether the foreground deletion of the owner waits for `dependent`."""
    return any(ref.uid == owner_uid and ref.block_owner_deletion for ref in dependent.metadata.owner_references)


def without(dependent: Object, owner_uid: str) -> list[v1.OwnerReference]:
    return [ref for ref in dependent.metadata.owner_references if ref.uid != owner_uid]


def unblocking(dependent: Object) -> list[v1.OwnerReference]:
    """The same owners, none of which waits for it any more: how a circle of foreground deletions is broken."""
    freed = []
    for ref in dependent.metadata.owner_references:
        copy = v1.OwnerReference()
        copy.CopyFrom(ref)
        copy.block_owner_deletion = False
        freed.append(copy)
    return freed
