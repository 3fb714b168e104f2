"""What can go wrong with a request, named by what the caller does next; and the one mapping to gRPC statuses and back.

Every error has a `reason` (the ErrorInfo reason on the wire, domain `podwire.io`), the gRPC status it travels as, and
says in its type whether the same request can succeed later (`retryable`). `to_status` and `from_rpc_error` are exact
inverses, so that an error raised in the store reaches a client on the other side of the wire as the same type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

DOMAIN: Final = "podwire.io"


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong place in an object: `path` as in `spec.containers[0].image`, and what to change."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class PodwireError(Exception):
    """The base of all of them. `message` is one sentence for a person; `metadata` names the object."""

    reason: ClassVar[str] = "INTERNAL"
    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    # The same request can succeed later.
    retryable: ClassVar[bool] = False
    # A write may have happened all the same: who must know reads.
    in_doubt: ClassVar[bool] = False
    # Seconds for which the server asks to be left alone.
    retry_after: float = 0.0

    def __init__(self, message: str, *, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.metadata: dict[str, str] = dict(metadata or {})


class Internal(PodwireError):
    """A fault of ours: report it."""

    in_doubt = True


class Invalid(PodwireError):
    """The object is wrong in one or more places: fix them. `errors` has all of them."""

    reason = "INVALID"
    code = grpc.StatusCode.INVALID_ARGUMENT

    def __init__(
        self, message: str, errors: Sequence[FieldError] = (), *, metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, metadata=metadata)
        self.errors: tuple[FieldError, ...] = tuple(errors)

    @classmethod
    def fields(cls, what: str, errors: Sequence[FieldError]) -> Invalid:
        """`Pod "web" is invalid`, followed by every field's error."""
        listed = "; ".join(str(error) for error in errors)
        return cls(f"{what} is invalid: {listed}", errors)


class TooLarge(PodwireError):
    """The object is larger than etcd takes in a request (1.5 MiB): make it smaller."""

    reason = "TOO_LARGE"
    code = grpc.StatusCode.INVALID_ARGUMENT


class NotFound(PodwireError):
    """There is no such object."""

    reason = "NOT_FOUND"
    code = grpc.StatusCode.NOT_FOUND


class AlreadyExists(PodwireError):
    """An object of that name is there."""

    reason = "ALREADY_EXISTS"
    code = grpc.StatusCode.ALREADY_EXISTS


class Conflict(PodwireError):
    """The object has changed since it was read: read it again, and retry."""

    reason = "CONFLICT"
    code = grpc.StatusCode.ABORTED


@dataclass(frozen=True, slots=True)
class FieldOwner:
    """A field, as `spec.replicas`, and the manager that owns it."""

    path: str
    manager: str

    def __str__(self) -> str:
        return f"{self.path} (owned by {self.manager})"


class FieldConflict(PodwireError):
    """An apply would change fields that others own: leave them out, or apply with force. `owners` has all of them."""

    reason = "FIELD_CONFLICT"
    code = grpc.StatusCode.ABORTED

    def __init__(
        self, message: str, owners: Sequence[FieldOwner] = (), *, metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, metadata=metadata)
        self.owners: tuple[FieldOwner, ...] = tuple(owners)


class PreconditionFailed(PodwireError):
    """What the request demands of the object's state does not hold (another uid, bound already, terminating)."""

    reason = "PRECONDITION_FAILED"
    code = grpc.StatusCode.FAILED_PRECONDITION


class Fenced(PodwireError):
    """The writer no longer holds the election that its write names: stop acting."""

    reason = "FENCED"
    code = grpc.StatusCode.FAILED_PRECONDITION


class HistoryLost(PodwireError):
    """That revision's history is compacted, or belongs to another epoch: list again."""

    reason = "REVISION_COMPACTED"
    code = grpc.StatusCode.OUT_OF_RANGE


class SlowWatcher(PodwireError):
    """The watcher did not read fast enough and was ended: list again, read faster."""

    reason = "SLOW_WATCHER"
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    retryable = True


class Overloaded(PodwireError):
    """Too many requests in flight: retry after `retry_after` seconds."""

    reason = "OVERLOADED"
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    retryable = True

    def __init__(self, message: str, *, retry_after: float = 1.0, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message, metadata=metadata)
        self.retry_after = retry_after


class StoreFull(PodwireError):
    """etcd has reached its quota and takes no writes: delete what is not needed, and retry once room has been made."""

    reason = "STORE_FULL"
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    retryable = True


class Unavailable(PodwireError):
    """The server or what it needs cannot be reached now: back off and retry. A write may or may not have happened."""

    reason = "UNAVAILABLE"
    code = grpc.StatusCode.UNAVAILABLE
    retryable = True
    in_doubt = True


class NodeUnreachable(PodwireError):
    """The agent of the pod's node has no session: the request needs it."""

    reason = "NODE_UNREACHABLE"
    code = grpc.StatusCode.UNAVAILABLE
    retryable = True


class Timeout(PodwireError):
    """No answer in time. A write may or may not have happened: read to find out."""

    reason = "DEADLINE_EXCEEDED"
    code = grpc.StatusCode.DEADLINE_EXCEEDED
    retryable = True
    in_doubt = True


class Unauthenticated(PodwireError):
    """The server does not know who asks: present a certificate of the cluster's CA."""

    reason = "UNAUTHENTICATED"
    code = grpc.StatusCode.UNAUTHENTICATED


class Unsupported(PodwireError):
    """This server has no such method, kind or option."""

    reason = "UNSUPPORTED"
    code = grpc.StatusCode.UNIMPLEMENTED


ERRORS: Final[tuple[type[PodwireError], ...]] = (
    Invalid,
    TooLarge,
    NotFound,
    AlreadyExists,
    Conflict,
    FieldConflict,
    PreconditionFailed,
    Fenced,
    HistoryLost,
    SlowWatcher,
    Overloaded,
    StoreFull,
    Unavailable,
    NodeUnreachable,
    Timeout,
    Unauthenticated,
    Unsupported,
    Internal,
)
BY_REASON: Final[Mapping[str, type[PodwireError]]] = {error.reason: error for error in ERRORS}
_BY_CODE: Final[Mapping[grpc.StatusCode, type[PodwireError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: Invalid,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.ABORTED: Conflict,
    grpc.StatusCode.FAILED_PRECONDITION: PreconditionFailed,
    grpc.StatusCode.OUT_OF_RANGE: HistoryLost,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: Timeout,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.UNIMPLEMENTED: Unsupported,
}


def _packed(*details: Any) -> list[AnyMessage]:
    packed = []
    for detail in details:
        wrapper = AnyMessage()
        wrapper.Pack(detail)
        packed.append(wrapper)
    return packed


def to_status(error: PodwireError) -> status_pb2.Status:
    """The google.rpc.Status that carries `error`: ErrorInfo always, and the detail of its type."""
    details: list[Any] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata),
    ]
    if isinstance(error, Invalid) and error.errors:
        request = error_details_pb2.BadRequest()
        for wrong in error.errors:
            request.field_violations.add(field=wrong.path, description=wrong.message)
        details.append(request)
    if isinstance(error, PreconditionFailed):
        failure = error_details_pb2.PreconditionFailure()
        failure.violations.add(type=error.reason, description=error.message)
        details.append(failure)
    if isinstance(error, FieldConflict):
        failure = error_details_pb2.PreconditionFailure()
        for owner in error.owners:
            failure.violations.add(type=error.reason, subject=owner.path, description=owner.manager)
        details.append(failure)
    if isinstance(error, Overloaded):
        delay = Duration()
        delay.FromMicroseconds(int(error.retry_after * 1e6))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return status_pb2.Status(code=error.code.value[0], message=error.message, details=_packed(*details))


def to_grpc_status(error: PodwireError) -> grpc.Status:
    """`error` in the form that `context.abort_with_status` takes."""
    status: grpc.Status = rpc_status.to_status(to_status(error))
    return status


def from_status(status: status_pb2.Status) -> PodwireError:
    """The error that `status` carries; of a server that is not ours, the nearest one."""
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    failure = error_details_pb2.PreconditionFailure()
    retry = error_details_pb2.RetryInfo()
    for detail in status.details:
        for message in (info, bad_request, failure, retry):
            detail.Unpack(message)
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    kind = BY_REASON.get(info.reason) if info.domain == DOMAIN else None
    if kind is None:
        kind = Unavailable if code is grpc.StatusCode.CANCELLED else _BY_CODE.get(code, Internal)
    metadata = dict(info.metadata)
    if issubclass(kind, Invalid):
        errors = [FieldError(v.field, v.description) for v in bad_request.field_violations]
        return kind(status.message, errors, metadata=metadata)
    if issubclass(kind, FieldConflict):
        owners = [FieldOwner(v.subject, v.description) for v in failure.violations]
        return kind(status.message, owners, metadata=metadata)
    if issubclass(kind, Overloaded):
        return kind(status.message, retry_after=retry.retry_delay.ToMicroseconds() / 1e6 or 1.0, metadata=metadata)
    return kind(status.message, metadata=metadata)


_CODES: Final[Mapping[int, grpc.StatusCode]] = {code.value[0]: code for code in grpc.StatusCode}


# What gRPC itself says of messages and metadata beyond its limits, at either end: it has no other status for them.
_TOO_LARGE: Final = ("message larger than max", "metadata size exceeds")


def from_rpc_error(error: grpc.RpcError) -> PodwireError:
    """The error that a failed call carries (grpc.aio.AioRpcError or a blocking call's)."""
    status = rpc_status.from_call(error)
    if status is not None:
        return from_status(status)
    code: grpc.StatusCode = error.code()
    details: str = error.details() or code.name.lower()
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and any(words in details for words in _TOO_LARGE):
        return TooLarge(f"the request or its answer is larger than gRPC is set to carry: {details}")
    return from_status(status_pb2.Status(code=code.value[0], message=details))
