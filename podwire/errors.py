"""What can go wrong with a request, named by what the caller does next; and the one mapping to gRPC statuses and back.

Every error has a `reason` (the ErrorInfo reason on the wire, domain `podwire.io`), the gRPC status it travels as, and
says in its type whether the same request can succeed later (`retryable`). `to_status` and `from_rpc_error` are
inverses, exact but for texts that have no room behind an answer, so that an error raised in the store reaches a client
on the other side of the wire as the same type.

The docstrings of the errors are the page of them in docs/api (scripts/reference makes it): what it means, when it
occurs, what to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    """Something failed inside the server, for a reason that is none of the others.

    When: the server met what its authors did not foresee, or etcd refused a request that it should have taken.
    Do: look at the server's log, which has the cause, and report it. Read before you write again.
    """

    in_doubt = True


class Invalid(PodwireError):
    """The request, or the object in it, is wrong in one or more places; `errors` has all of them.

    When: a field is missing, malformed or not to be changed, a selector or a token cannot be read, or the request is no
    message. All wrong fields are listed at once, and nothing is stored.
    Do: correct the fields that are named.
    """

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
    """The object is larger than etcd takes in a request (1.5 MiB), or a message larger than gRPC carries.

    When: an object is stored that has more than 1.5 MiB once it is serialised. The message names it and its size.
    Do: make it smaller, or split it.
    """

    reason = "TOO_LARGE"
    code = grpc.StatusCode.INVALID_ARGUMENT


class NotFound(PodwireError):
    """There is no such object.

    When: an object is read, changed or deleted that is not there (any more), or made in a namespace that is not there.
    Do: check name, kind and namespace; create what is missing.
    """

    reason = "NOT_FOUND"
    code = grpc.StatusCode.NOT_FOUND


class AlreadyExists(PodwireError):
    """An object of that name is there already.

    When: an object is created whose name is taken. A deleted object keeps its name until it is gone.
    Do: update it, apply instead of create, or choose another name (or `generateName`).
    """

    reason = "ALREADY_EXISTS"
    code = grpc.StatusCode.ALREADY_EXISTS


class Conflict(PodwireError):
    """The object has changed since it was read.

    When: an update, a patch or a deletion names a `resourceVersion` that is no longer the object's own; or so many
    others write the object at once that the server gives up.
    Do: read the object again, make the change to that, and send it.
    """

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
    """An apply would change fields that other managers own; `owners` has all of them.

    When: an apply gives another value to a field that somebody else set. Nothing is changed.
    Do: leave those fields out, give them the value that they have, or apply with `force` to own them from now on.
    """

    reason = "FIELD_CONFLICT"
    code = grpc.StatusCode.ABORTED

    def __init__(
        self, message: str, owners: Sequence[FieldOwner] = (), *, metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, metadata=metadata)
        self.owners: tuple[FieldOwner, ...] = tuple(owners)


class PreconditionFailed(PodwireError):
    """What the request demands of the object's state does not hold.

    When: the object has another `uid` than the request names, a pod is bound that has a node, something new is made in
    a namespace that is being deleted, or something is deleted that must stay.
    Do: read the object; decide anew.
    """

    reason = "PRECONDITION_FAILED"
    code = grpc.StatusCode.FAILED_PRECONDITION


class Fenced(PodwireError):
    """The writer no longer holds the election under which it writes.

    When: a scheduler or controller was frozen or cut off for longer than its lease, and somebody else was elected.
    Do: stop acting, and stand for election again.
    """

    reason = "FENCED"
    code = grpc.StatusCode.FAILED_PRECONDITION


class HistoryLost(PodwireError):
    """The revision that the request asks for is gone, or belongs to another epoch of the store.

    When: a watch or a page of a list asks for what is older than the history that is kept (5 minutes by default), or
    the store was restored from a backup since.
    Do: list again, and watch from there.
    """

    reason = "REVISION_COMPACTED"
    code = grpc.StatusCode.OUT_OF_RANGE


class SlowWatcher(PodwireError):
    """The watcher did not read fast enough, and was ended.

    When: more has gathered for a watch than the server keeps for one. Other watchers do not notice.
    Do: list again and watch from there; read faster, or select less.
    """

    reason = "SLOW_WATCHER"
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    retryable = True


class Overloaded(PodwireError):
    """Too many requests are under way, for this user or in all.

    When: a limit on requests in flight, open streams or bytes of lists is reached. Nothing was done.
    Do: wait for `retry_after` seconds, and then a random part more each time.
    """

    reason = "OVERLOADED"
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    retryable = True

    def __init__(self, message: str, *, retry_after: float = 1.0, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message, metadata=metadata)
        self.retry_after = retry_after


class StoreFull(PodwireError):
    """etcd has reached its quota and takes no writes. Reads and deletions work.

    When: a write would make etcd's database larger than its quota, or its NOSPACE alarm stands.
    Do: delete what is not needed; the elected controllers then make room of it within a minute, and writes work again.
    `podctl cluster status` shows how it stands.
    """

    reason = "STORE_FULL"
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    retryable = True


class Unavailable(PodwireError):
    """The server, or what it needs to answer, cannot be reached now. A write may or may not have happened.

    When: nothing listens at the address, the connection broke, the server is stopping, or etcd has no quorum.
    Do: back off and retry, elsewhere if there is an elsewhere; before a write is repeated, read whether it happened.
    """

    reason = "UNAVAILABLE"
    code = grpc.StatusCode.UNAVAILABLE
    retryable = True
    in_doubt = True


class NodeUnreachable(PodwireError):
    """The agent of the pod's node has no session, and the request needs it.

    When: logs or exec of a pod whose node is down, is cut off, or has lost its agent.
    Do: look at the node (`podctl get nodes`); retry when it is Ready.
    """

    reason = "NODE_UNREACHABLE"
    code = grpc.StatusCode.UNAVAILABLE
    retryable = True


class Timeout(PodwireError):
    """No answer came in time. A write may or may not have happened.

    When: the caller's deadline passed, or etcd did not answer the server within 7 s.
    Do: read whether a write happened before it is repeated; then retry.
    """

    reason = "DEADLINE_EXCEEDED"
    code = grpc.StatusCode.DEADLINE_EXCEEDED
    retryable = True
    in_doubt = True


class Unauthenticated(PodwireError):
    """It is not known who asks.

    When: etcd demands that clients log in, and does not accept the control plane. (A client of the API without a
    certificate of the cluster's CA does not get this far: its connection is refused, which is UNAVAILABLE.)
    Do: give the control plane the certificate of a user that etcd knows (`--etcd-cert`, `--etcd-key`).
    """

    reason = "UNAUTHENTICATED"
    code = grpc.StatusCode.UNAUTHENTICATED


class Unsupported(PodwireError):
    """This server has no such method, kind or option.

    When: a client is newer than the server, or a kind does not have that verb.
    Do: upgrade the server, or leave it out.
    """

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


# What follows an answer may have 8 KiB in most implementations of gRPC. The details are sent in base64, the message
# both in them and, percent-encoded, beside them.
_MESSAGE_BYTES: Final = 900
_DETAIL_BYTES: Final = 2_400
_TEXT_BYTES: Final = 520
# What protobuf adds to the two texts of a violation, with the reason that conflicts repeat.
_PAIR_BYTES: Final = 24


def _packed(*details: Any) -> list[AnyMessage]:
    packed = []
    for detail in details:
        wrapper = AnyMessage()
        wrapper.Pack(detail)
        packed.append(wrapper)
    return packed


def to_status(error: PodwireError) -> status_pb2.Status:
    """The google.rpc.Status that carries `error`: ErrorInfo always, and the detail of its type.

    It fits into the trailers of a call: long texts are cut, and of many fields the last ones are only counted.
    """
    message = _shortened(error.message, _MESSAGE_BYTES)
    named = {name: _shortened(value, _TEXT_BYTES) for name, value in error.metadata.items()}
    details: list[Any] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=named)]
    if isinstance(error, Invalid) and error.errors:
        request = error_details_pb2.BadRequest()
        for path, text in _fitting([(wrong.path, wrong.message) for wrong in error.errors], ("", "and {} more")):
            request.field_violations.add(field=path, description=text)
        details.append(request)
    if isinstance(error, PreconditionFailed):
        failure = error_details_pb2.PreconditionFailure()
        failure.violations.add(type=error.reason, description=message)
        details.append(failure)
    if isinstance(error, FieldConflict):
        failure = error_details_pb2.PreconditionFailure()
        for path, manager in _fitting([(owner.path, owner.manager) for owner in error.owners], ("and {} more", "")):
            failure.violations.add(type=error.reason, subject=path, description=manager)
        details.append(failure)
    if isinstance(error, Overloaded):
        delay = Duration()
        delay.FromMicroseconds(int(error.retry_after * 1e6))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return status_pb2.Status(code=error.code.value[0], message=message, details=_packed(*details))


def _shortened(text: str, most: int) -> str:
    """`text`, cut where it has more than `most` bytes; what is no character (half of a pair) becomes one."""
    data = text.encode(errors="replace")
    return data.decode() if len(data) <= most else data[:most].decode(errors="ignore") + "…"


def _fitting(pairs: Sequence[tuple[str, str]], rest: tuple[str, str]) -> Iterator[tuple[str, str]]:
    """Of the pairs as many as have room, then `rest` with the number of those that have none."""
    left = _DETAIL_BYTES
    for index, pair in enumerate(pairs):
        first, second = (_shortened(text, _TEXT_BYTES) for text in pair)
        left -= len(first.encode()) + len(second.encode()) + _PAIR_BYTES
        if left < 0:
            yield rest[0].format(len(pairs) - index), rest[1].format(len(pairs) - index)
            return
        yield first, second


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
# What grpc.aio says at the client's end of a write that the end of the call has overtaken.
_OVERTAKEN: Final = "Internal error from Core"


def from_rpc_error(error: grpc.RpcError) -> PodwireError:
    """The error that a failed call carries (grpc.aio.AioRpcError or a blocking call's)."""
    try:
        status = rpc_status.from_call(error)
    except ValueError:
        # Details that belong to another code: gRPC itself ended the call after the server had.
        status = None
    if status is not None:
        return from_status(status)
    code: grpc.StatusCode = error.code()
    details: str = error.details() or code.name.lower()
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and any(words in details for words in _TOO_LARGE):
        return TooLarge(f"the request or its answer is larger than gRPC is set to carry: {details}")
    if code is grpc.StatusCode.INTERNAL and details == _OVERTAKEN:
        return Unavailable("the call ended while it was written to")
    return from_status(status_pb2.Status(code=code.value[0], message=details))
