"""What the server itself decides about an object: what it sets when it is made and keeps when it is changed.

Pure functions over messages; time and names come in. What deleting comes to is in deletion_plan.
"""

from __future__ import annotations

import secrets
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from controlplane.services import field_ownership
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
    same_spec = kind.has_spec and new.spec == old.spec
    problems = validation.validate(kind, new, spec_is_stored=same_spec)
    _check(kind, new, [*problems, *validation.validate_update(kind, old, new)])
    if kind.has_spec and not same_spec:
        new.metadata.generation = old.metadata.generation + 1


def with_status(kind: Kind, old: Any, sent: Any) -> Any:
    """`old` with the status of `sent`, and nothing else of it."""
    check_preconditions(kind, old, uid=sent.metadata.uid, resource_version=sent.metadata.resource_version)
    new = copy_of(old)
    new.status.CopyFrom(sent.status)
    if kind is kinds.NODE:
        # The scheduler reckons with the amounts in it.
        _check(kind, new, validation.validate(kind, new))
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


def _keep_metadata(old: Any, new: Any) -> None:
    """What only the server changes."""
    kept, meta = old.metadata, new.metadata
    # Another name or namespace stays, for validation to refuse.
    meta.name = meta.name or kept.name
    meta.namespace = meta.namespace or kept.namespace
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
    # What a client sends is the server's own record that it has read, or the wish to end it.
    ended = field_ownership.is_reset(meta.managed_fields)
    del meta.managed_fields[:]
    if not ended:
        meta.managed_fields.extend(kept.managed_fields)


def copy_of(obj: Any) -> Any:
    """A copy of a message, to be changed at will."""
    copy = type(obj)()
    copy.CopyFrom(obj)
    return copy


def _check(kind: Kind, obj: Any, problems: list[errors.FieldError]) -> None:
    if problems:
        raise errors.Invalid.fields(describe(kind, key_of(obj)), problems)
