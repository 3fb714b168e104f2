"""The way to etcd: a channel for each member, the one in use, and what an error of etcd means.

Errors are `podwire.errors`, so that they reach a client of the API as they are. The distinction that matters is whether
a write that failed may still have happened: `Unavailable` and `Timeout` say that nobody knows, everything else that it
did not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio
import structlog

from controlplane.http2 import Channel, Options, client_tls
from controlplane.store.api import etcd_pb2_grpc
from podwire import errors
from podwire.client import Tls

if TYPE_CHECKING:
    from controlplane.store.api.etcd_pb2_grpc import (
        ClusterAsyncStub,
        KVAsyncStub,
        LeaseAsyncStub,
        MaintenanceAsyncStub,
        WatchAsyncStub,
    )

log = structlog.get_logger(__name__)

# etcd refuses clients that ping more often than every 5 s. A dead member is noticed within 10 s all the same. A range
# of many objects is one message, of any size.
_OPTIONS: Final = Options(
    ping_after=8.0,
    pong_within=2.0,
    largest_message=2**32 - 1,
    stream_window=4 * 1024 * 1024,
    connection_window=64 * 1024 * 1024,
)


class Compacted(errors.HistoryLost):
    """The revision is older than etcd keeps. `compact_revision` is the oldest there is; 0 where etcd did not say."""

    def __init__(self, message: str, compact_revision: int = 0) -> None:
        super().__init__(message)
        self.compact_revision = compact_revision


class LeaseLost(errors.PodwireError):
    """The lease is gone, or may be by now: whoever acted under it stops."""

    reason = errors.Unavailable.reason
    code = errors.Unavailable.code
    retryable = True


@dataclass(frozen=True, slots=True)
class Member:
    """A member of the cluster, as far as this client is concerned: its address and the stubs of its channel."""

    address: str
    channel: Channel
    kv: KVAsyncStub
    watch: WatchAsyncStub
    lease: LeaseAsyncStub
    cluster: ClusterAsyncStub
    maintenance: MaintenanceAsyncStub


class Endpoints:
    """The members, and the one in use: the next one after a failure."""

    def __init__(self, addresses: Sequence[str], tls: Tls | None = None) -> None:
        """`addresses` as etcd writes them: `http://host:port`, `https://host:port` or `host:port`."""
        if not addresses:
            raise ValueError("an etcd client needs at least one endpoint")
        self.members = tuple(_open(address, tls) for address in addresses)
        self._current = 0
        self._tls = tls
        # Members that were asked for by an address of their own, which is none of the given ones.
        self._others: dict[str, Member] = {}

    @property
    def current(self) -> Member:
        return self.members[self._current]

    def failed(self, member: Member) -> None:
        """Moves on from `member`, unless another caller has done so."""
        if member is self.current and len(self.members) > 1:
            self._current = (self._current + 1) % len(self.members)
            log.info("moving on to another etcd member", failed=member.address, next=self.current.address)

    def at(self, address: str) -> Member:
        """The member at `address`, as `target_of` writes it, for a call that is about this member and no other."""
        for member in self.members:
            if member.address == address:
                return member
        if address not in self._others:
            self._others[address] = _open(address, self._tls)
        return self._others[address]

    async def close(self) -> None:
        for member in (*self.members, *self._others.values()):
            await member.channel.close()


def target_of(address: str) -> str:
    """`host:port` of an address as etcd writes it."""
    return address.removeprefix("http://").removeprefix("https://").rstrip("/")


def _open(address: str, tls: Tls | None) -> Member:
    target = target_of(address)
    context = None
    if tls is None:
        if address.startswith("https://"):
            raise ValueError(f"{address} needs the CA, certificate and key of an etcd client")
    else:
        context = client_tls(tls.ca, tls.cert, tls.key)
    channel: Any = Channel(target, context, _OPTIONS)
    return Member(
        target,
        channel,
        etcd_pb2_grpc.KVStub(channel),
        etcd_pb2_grpc.WatchStub(channel),
        etcd_pb2_grpc.LeaseStub(channel),
        etcd_pb2_grpc.ClusterStub(channel),
        etcd_pb2_grpc.MaintenanceStub(channel),
    )


def meaning(error: grpc.aio.AioRpcError) -> errors.PodwireError:
    """What an error of etcd means for the caller. What is not known is `Unavailable`: it may have happened."""
    details = error.details() or ""
    match error.code():
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return errors.Timeout("etcd did not answer in time")
        case grpc.StatusCode.OUT_OF_RANGE if "compacted" in details:
            return Compacted("the revision is older than the history that etcd keeps")
        case grpc.StatusCode.OUT_OF_RANGE:
            return errors.HistoryLost(f"etcd has not reached that revision: {details}")
        case grpc.StatusCode.RESOURCE_EXHAUSTED if "space exceeded" in details:
            return errors.StoreFull(
                "etcd's database has reached its quota and takes no writes: delete what is not needed; the leader of "
                "the controllers then makes room within seconds (podctl cluster status shows how far it is)"
            )
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return errors.Overloaded(f"etcd refuses more requests for now: {details}")
        case grpc.StatusCode.INVALID_ARGUMENT if "too large" in details:
            return errors.TooLarge("the request is larger than the 1.5 MiB that etcd takes")
        case grpc.StatusCode.INVALID_ARGUMENT if "user name is empty" in details:
            return errors.Unauthenticated(
                "etcd demands that clients log in: give --etcd-ca, --etcd-cert and --etcd-key"
            )
        case grpc.StatusCode.INVALID_ARGUMENT | grpc.StatusCode.FAILED_PRECONDITION:
            return errors.Internal(f"etcd refuses the request: {details}")
        case grpc.StatusCode.NOT_FOUND if "lease" in details:
            return LeaseLost("etcd does not know the lease: it has expired or was revoked")
        case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
            return errors.Unauthenticated(f"etcd refuses this client: {details}")
        case grpc.StatusCode.DATA_LOSS:
            return errors.Unavailable(
                "etcd refuses everything, as it found its data corrupt: see podctl cluster status"
            )
        case _:
            return errors.Unavailable(f"etcd cannot be reached or has no leader: {details}")


def reason_of(error: BaseException) -> str:
    """One line for a log: gRPC's own text of an error fills a screen."""
    return error.details() or error.code().name if isinstance(error, grpc.aio.AioRpcError) else str(error)
