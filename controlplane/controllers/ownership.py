"""Who owns an object: the one owner reference that is its controller's, by uid. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from podwire import v1
from podwire.keys import Object
from podwire.kinds import Kind
from podwire.selectors import LabelSelector

T = TypeVar("T", bound=Object)


def controller_of(obj: Object) -> v1.OwnerReference | None:
    return next((owner for owner in obj.metadata.owner_references if owner.controller), None)


def controller_uid(obj: Object) -> str:
    """Empty: nobody controls it."""
    owner = controller_of(obj)
    return owner.uid if owner else ""


def is_orphan_in(namespace: str, obj: Object) -> bool:
    """Whether a controller of `namespace` may adopt it."""
    return obj.metadata.namespace == namespace and controller_of(obj) is None


def reference_to(kind: Kind, owner: Object) -> v1.OwnerReference:
    """The reference that makes `owner` the controller of what carries it."""
    return v1.OwnerReference(
        api_version=kind.api_version,
        kind=kind.name,
        name=owner.metadata.name,
        uid=owner.metadata.uid,
        controller=True,
        block_owner_deletion=True,
    )


@dataclass(frozen=True, slots=True)
class Claims(Generic[T]):
    """Which objects an owner has, should take (nobody controls them), and should let go (they match no longer)."""

    owned: list[T]
    adopt: list[T]
    release: list[T]


def claim(owner: Object, selector: LabelSelector, candidates: Iterable[T]) -> Claims[T]:
    """Sorts `candidates`, all of the owner's namespace. An owner that is being deleted takes nothing more."""
    claims: Claims[T] = Claims([], [], [])
    owner_going = owner.metadata.HasField("deletion_timestamp")
    for candidate in candidates:
        holder = controller_uid(candidate)
        matches = selector.matches(candidate.metadata.labels)
        if holder == owner.metadata.uid:
            (claims.owned if matches else claims.release).append(candidate)
        elif not holder and matches and not owner_going and not candidate.metadata.HasField("deletion_timestamp"):
            claims.adopt.append(candidate)
    return claims
