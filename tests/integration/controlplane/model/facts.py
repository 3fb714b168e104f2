"""The model: what of an object matters here, and what each request makes of it, one after the other."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from podwire import kinds
from podwire.kinds import Kind
from tests.integration.controlplane.model.programs import NODE, ON_A_NODE, Verb

FINALIZER = "podwire.io/test"
# Kubernetes' default, which the server writes into pods.
_POD_GRACE = 30


@dataclass(frozen=True)
class Facts:
    uid: str
    count: str
    # Who wrote it last, but for its status.
    by: str
    tier: str
    # Who wrote its status last.
    status: str
    finalizers: tuple[str, ...]
    # Seconds that it is given to go, once it is marked for deletion.
    going: int | None


@dataclass(frozen=True)
class Request:
    """What a client asked for and was told to have happened. `sent` is what an update or an apply contains."""

    verb: Verb
    kind: Kind = field(repr=False)
    name: str
    mark: str
    # What it demands of the state that it changes; empty: nothing.
    revision: str = ""
    uid: str = ""
    tier: str = ""
    count: str = ""
    finalizers: tuple[str, ...] = ()
    grace: int | None = None
    answer: Any = field(default=None, repr=False)

    @property
    def answered_revision(self) -> int:
        return int(self.answer.metadata.resource_version)


def facts_of(obj: Any) -> Facts:
    meta = obj.metadata
    return Facts(
        uid=meta.uid,
        count=meta.annotations.get("count", ""),
        by=meta.annotations.get("by", ""),
        tier=meta.labels.get("tier", ""),
        status=status_mark(obj),
        finalizers=tuple(meta.finalizers),
        going=meta.deletion_grace_period_seconds if meta.HasField("deletion_timestamp") else None,
    )


def status_mark(obj: Any) -> str:
    match obj.DESCRIPTOR.name:
        case "Pod":
            return str(obj.status.message)
        case "Deployment":
            return str(obj.status.collision_count or "")
        case _:
            return ""


class ImpossibleError(Exception):
    """The request cannot have happened in this state."""


def after(before: Facts | None, request: Request) -> Facts | None:
    """The state after `request`; None: there is no object any more. Raises ImpossibleError."""
    if request.verb is Verb.CREATE or (request.verb is Verb.APPLY and before is None):
        if before is not None:
            raise ImpossibleError
        return Facts(request.answer.metadata.uid, request.count, request.mark, request.tier, "", (), None)
    if before is None or (request.uid and request.uid != before.uid):
        raise ImpossibleError
    match request.verb:
        case Verb.UPDATE:
            changed = replace(before, count=request.count, by=request.mark, tier=request.tier)
            return _unless_over(replace(changed, finalizers=request.finalizers))
        case Verb.STATUS:
            return replace(before, status=request.mark)
        case Verb.LABEL:
            return replace(before, tier=request.tier, by=request.mark)
        case Verb.COUNT:
            if before.count != request.count:
                raise ImpossibleError
            return replace(before, count=str(int(request.count) + 1), by=request.mark)
        case Verb.APPLY:
            return replace(before, count=request.count, by=request.mark, tier=request.tier)
        case Verb.FINALIZE:
            return _unless_over(replace(before, finalizers=request.finalizers, by=request.mark))
        case Verb.DELETE:
            return _deleted(before, request)
    raise AssertionError(request.verb)


def _unless_over(changed: Facts) -> Facts | None:
    """Who takes the last finalizer off an object that waits for nothing else has removed it."""
    return None if changed.going == 0 and not changed.finalizers else changed


def _deleted(before: Facts, request: Request) -> Facts | None:
    runs = request.kind is kinds.POD and request.name == ON_A_NODE
    grace = (request.grace if request.grace is not None else _POD_GRACE) if runs else 0
    if grace == 0 and not before.finalizers:
        return None
    return replace(before, going=grace if before.going is None else min(before.going, grace))


def node_of(name: str) -> str:
    return NODE if name == ON_A_NODE else ""
