"""What the server itself decides about an object: what it sets when it is made, keeps when it is changed, and what
deleting it comes to. Pure functions over messages; time and names come in."""

from __future__ import annotations

import secrets
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from controlplane.services.service_types import drop_what_the_old_type_brought
from podwire import errors, kinds, validation
from podwire.defaults import apply_defaults
from podwire.keys import key_of
from podwire.kinds import Kind

# Kubernetes': no vowels, so that no words come out, and no characters that look alike.
_SUFFIX_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX_LENGTH: Final = 5
# Names are at most 253 characters; longer bases are cut.
_LONGEST_BASE: Final = 253 - _SUFFIX_LENGTH

DEFAULT_NAMESPACE: Final = "default"
FINISHED_PHASES: Final = frozenset({"Succeeded", "Failed"})


def describe(kind: Kind, key: str) -> str:
    """`Pod "default/web"`, for errors."""
    return f'{kind.name} "{key}"'


def not_found(kind: Kind, key: str) -> errors.NotFound:
    return errors.NotFound(f"{describe(kind, key)} does not exist", metadata={"kind": kind.name, "key": key})


def generated_name(base: str) -> str:
    """`base` and five random characters, as in Kubernetes."""
    return base[:_LONGEST_BASE] + "".join(secrets.choice(_SUFFIX_LETTERS) for _ in range(_SUFFIX_LENGTH))


def prepare_new(kind: Kind, obj: Any, *, uid: str, now: Timestamp) -> None:
    """Makes what a client sent the object that is stored; raises Invalid with every wrong field."""
    meta = obj.metadata
    if meta.resource_version:
        raise errors.Invalid.fields(
            describe(kind, key_of(obj)),
            [errors.FieldError("metadata.resourceVersion", "must not be set on an object to be created")],
        )
    if not meta.name and meta.generate_name:
        meta.name = generated_name(meta.generate_name)
    if kind.namespaced and not meta.namespace:
        meta.namespace = DEFAULT_NAMESPACE
    meta.uid = uid
    meta.self_link = ""
    meta.generation = 1 if kind.has_spec else 0
    meta.creation_timestamp.CopyFrom(now)
    meta.ClearField("deletion_timestamp")
    meta.ClearField("deletion_grace_period_seconds")
    # A node's agent knows what the node has when it registers it; every other status is the work of controllers.
    if kind.has_status and kind is not kinds.NODE:
        obj.ClearField("status")
    apply_defaults(kind, obj)
    _check(kind, obj, validation.validate(kind, obj))


def prepare_update(kind: Kind, old: Any, new: Any) -> None:
    """Makes what a client sent the next state of `old`; raises Invalid, Conflict or PreconditionFailed."""
    check_preconditions(kind, old, uid=new.metadata.uid, resource_version=new.metadata.resource_version)
    _keep_metadata(old, new)
    if kind is kinds.SERVICE:
        drop_what_the_old_type_brought(old.spec, new.spec)
    if kind.has_status:
        new.ClearField("status")
        new.status.CopyFrom(old.status)
        if not old.HasField("status"):
            new.ClearField("status")
    apply_defaults(kind, new)


def finish_update(kind: Kind, old: Any, new: Any) -> None:
    """After allocations: checks the change as a whole, and counts it where it is one of the spec."""
    _check(kind, new, [*validation.validate(kind, new), *validation.validate_update(kind, old, new)])
    if kind.has_spec and new.spec != old.spec:
        new.metadata.generation = old.metadata.generation + 1


def with_status(kind: Kind, old: Any, sent: Any) -> Any:
    """`old` with the status of `sent`, and nothing else of it."""
    check_preconditions(kind, old, uid=sent.metadata.uid, resource_version=sent.metadata.resource_version)
    new = copy_of(old)
    new.status.CopyFrom(sent.status)
    return new


def check_preconditions(kind: Kind, current: Any, *, uid: str, resource_version: str) -> None:
    """What a request demands of the object's identity and version; empty: nothing."""
    what = describe(kind, key_of(current))
    if uid and uid != current.metadata.uid:
        raise errors.PreconditionFailed(f"{what} has the uid {current.metadata.uid}, not {uid}: it was made anew")
    if resource_version and resource_version != current.metadata.resource_version:
        raise errors.Conflict(
            f"{what} has changed: it is at resource version {current.metadata.resource_version}, "
            f"not {resource_version}; read it again and retry"
        )


def plan_deletion(kind: Kind, current: Any, *, grace_period_seconds: int | None, now: Timestamp) -> Any | None:
    """The next state of an object that is to be deleted; None: it is removed at once."""
    if grace_period_seconds is not None and grace_period_seconds < 0:
        raise errors.Invalid.fields("the request", [errors.FieldError("gracePeriodSeconds", "must not be negative")])
    if kind is kinds.POD:
        return _pod_deletion(current, grace_period_seconds, now)
    if kind is kinds.NAMESPACE:
        return _namespace_deletion(current, grace_period_seconds, now)
    return None


def _pod_deletion(pod: Any, asked: int | None, now: Timestamp) -> Any | None:
    """A pod that runs somewhere is stopped there first: its agent removes it."""
    grace = asked if asked is not None else pod.spec.termination_grace_period_seconds
    if not pod.spec.node_name or pod.status.phase in FINISHED_PHASES or grace == 0:
        return None
    new = copy_of(pod)
    meta = new.metadata
    if meta.HasField("deletion_timestamp"):
        # Once it is being deleted, only a shorter grace makes a difference.
        if meta.deletion_grace_period_seconds <= grace:
            return new
        started = meta.deletion_timestamp.seconds - meta.deletion_grace_period_seconds
    else:
        started = now.seconds
    meta.deletion_timestamp.seconds = started + grace
    meta.deletion_timestamp.nanos = 0
    meta.deletion_grace_period_seconds = grace
    meta.generation += 1
    return new


def _namespace_deletion(namespace: Any, asked: int | None, now: Timestamp) -> Any | None:
    """First it takes nothing new; it is removed, by the controller that has emptied it, with a grace of 0."""
    if namespace.metadata.name == DEFAULT_NAMESPACE:
        raise errors.PreconditionFailed(f'the namespace "{DEFAULT_NAMESPACE}" is always there: delete what is in it')
    terminating = namespace.metadata.HasField("deletion_timestamp")
    if terminating and asked == 0:
        return None
    new = copy_of(namespace)
    if not terminating:
        new.metadata.deletion_timestamp.CopyFrom(now)
        new.status.phase = "Terminating"
    return new


def _keep_metadata(old: Any, new: Any) -> None:
    """What only the server changes."""
    kept, meta = old.metadata, new.metadata
    meta.name = kept.name
    meta.namespace = kept.namespace
    meta.uid = kept.uid
    meta.self_link = ""
    meta.resource_version = kept.resource_version
    meta.generation = kept.generation
    meta.generate_name = kept.generate_name
    meta.creation_timestamp.CopyFrom(kept.creation_timestamp)
    meta.ClearField("deletion_timestamp")
    meta.ClearField("deletion_grace_period_seconds")
    if kept.HasField("deletion_timestamp"):
        meta.deletion_timestamp.CopyFrom(kept.deletion_timestamp)
    if kept.HasField("deletion_grace_period_seconds"):
        meta.deletion_grace_period_seconds = kept.deletion_grace_period_seconds
    if not meta.managed_fields:
        meta.managed_fields.extend(kept.managed_fields)


def copy_of(obj: Any) -> Any:
    """A copy of a message, to be changed at will."""
    copy = type(obj)()
    copy.CopyFrom(obj)
    return copy


def _check(kind: Kind, obj: Any, problems: list[errors.FieldError]) -> None:
    if problems:
        raise errors.Invalid.fields(describe(kind, key_of(obj)), problems)
