"""What deleting an object comes to: it is removed at once, or marked and removed when nothing holds it any more.

Three things can hold an object: finalizers, until the last one is taken off; the grace of a running pod, until its
agent has stopped it and deletes it with a grace of 0; the contents of a namespace, until the controller that empties
it deletes it with a grace of 0. Pure functions over messages; the rules are Kubernetes' (registry/rest/delete.go).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from controlplane.services.lifecycle import DEFAULT_NAMESPACE, copy_of
from podwire import errors, kinds, v1
from podwire.kinds import Kind
from podwire.propagation import FOREGROUND, FOREGROUND_FINALIZER, ORPHAN, ORPHAN_FINALIZER, POLICIES

_FINISHED_PHASES: Final = frozenset({"Succeeded", "Failed"})
# Seconds; 68 years. A time that much later can still be written down, one after the year 9999 cannot.
_LONGEST_GRACE: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Options:
    """How to delete. A grace in seconds matters to pods; an empty policy is Background, or what was begun before."""

    grace_period_seconds: int | None = None
    propagation_policy: str = ""

    def __post_init__(self) -> None:
        wrong = []
        if self.grace_period_seconds is not None and self.grace_period_seconds < 0:
            wrong.append(errors.FieldError("gracePeriodSeconds", "must not be negative"))
        if self.propagation_policy and self.propagation_policy not in POLICIES:
            names = ", ".join(POLICIES)
            wrong.append(
                errors.FieldError("propagationPolicy", f'must be one of {names}, not "{self.propagation_policy}"')
            )
        if wrong:
            raise errors.Invalid.fields("the request", wrong)


def plan(kind: Kind, current: Any, options: Options, now: Timestamp) -> Any | None:
    """The next state of an object that is to be deleted; None: it is removed at once."""
    new = copy_of(current)
    # Nobody follows the owners of events: there are too many, and they end by themselves.
    if kind is not kinds.EVENT:
        _set_finalizers(new.metadata, options.propagation_policy)
    if kind is kinds.NAMESPACE:
        return _namespace(new, options.grace_period_seconds, now)
    grace = _pod_grace(new, options.grace_period_seconds) if kind is kinds.POD else 0
    if grace == 0 and not new.metadata.finalizers:
        return None
    _mark(new.metadata, grace, now)
    return new


def is_over(obj: Any) -> bool:
    """Whether nothing holds a marked object any more. A namespace, which has no grace, goes by its controller alone."""
    meta = obj.metadata
    return (
        meta.HasField("deletion_timestamp")
        and not meta.finalizers
        and meta.HasField("deletion_grace_period_seconds")
        and meta.deletion_grace_period_seconds == 0
    )


def _set_finalizers(meta: v1.ObjectMeta, policy: str) -> None:
    """Without a policy what was chosen before goes on; with one, it is put in the place of what was chosen before."""
    before = list(meta.finalizers)
    after = [name for name in before if name not in (ORPHAN_FINALIZER, FOREGROUND_FINALIZER)]
    for name, meant_by in ((ORPHAN_FINALIZER, ORPHAN), (FOREGROUND_FINALIZER, FOREGROUND)):
        if policy == meant_by or (not policy and name in before):
            after.append(name)
    if set(after) != set(before):
        meta.finalizers[:] = after


def _pod_grace(pod: v1.Pod, asked: int | None) -> int:
    """A pod that runs somewhere is stopped there first: its agent removes it."""
    if not pod.spec.node_name or pod.status.phase in _FINISHED_PHASES:
        return 0
    return min(asked if asked is not None else pod.spec.termination_grace_period_seconds, _LONGEST_GRACE)


def _mark(meta: v1.ObjectMeta, grace: int, now: Timestamp) -> None:
    if meta.HasField("deletion_timestamp"):
        # Once it is being deleted, only a shorter grace makes a difference.
        if meta.deletion_grace_period_seconds <= grace:
            return
        started = meta.deletion_timestamp.seconds - meta.deletion_grace_period_seconds
    else:
        started = now.seconds
        _count(meta)
    meta.deletion_timestamp.Clear()
    meta.deletion_timestamp.seconds = started + grace
    meta.deletion_grace_period_seconds = grace


def _namespace(namespace: v1.Namespace, asked: int | None, now: Timestamp) -> v1.Namespace | None:
    """First it takes nothing new; it is removed, by the controller that has emptied it, with a grace of 0."""
    meta = namespace.metadata
    if meta.name == DEFAULT_NAMESPACE:
        raise errors.PreconditionFailed(f'the namespace "{DEFAULT_NAMESPACE}" is always there: delete what is in it')
    if not meta.HasField("deletion_timestamp"):
        meta.deletion_timestamp.CopyFrom(now)
        namespace.status.phase = "Terminating"
        _count(meta)
    elif asked == 0 and not meta.finalizers:
        return None
    return namespace


def _count(meta: v1.ObjectMeta) -> None:
    """The mark changes what controllers and agents have to do: it counts like a change of the spec."""
    if meta.generation:
        meta.generation += 1
