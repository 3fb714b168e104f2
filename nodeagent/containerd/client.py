"""A thin typed client of containerd's gRPC API: stubs, the namespace with every call, and errors by what to do next.

Every call has a deadline. Those that make the runtime fork (tasks) have a long one: on a machine that starts fifty pods
at once they wait for each other, and giving up early would leave work behind for the retry to undo.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from nodeagent.containerd.api import (
    containers_pb2_grpc,
    content_pb2_grpc,
    cri_pb2_grpc,
    events_pb2_grpc,
    images_pb2_grpc,
    leases_pb2_grpc,
    snapshots_pb2_grpc,
    tasks_pb2_grpc,
    version_pb2_grpc,
)

Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)

SHORT: Final = 15.0
"""Seconds for calls that only read or write containerd's database."""
LONG: Final = 180.0
"""Seconds for calls that fork a shim or a runc."""
_LARGEST_MESSAGE: Final = 64 << 20
"""Bytes; a list of a few hundred containers with their specs exceeds gRPC's 4 MiB."""


class ContainerdError(Exception):
    """containerd refused or failed; the message is its own."""


class NotFound(ContainerdError):
    """There is no such object."""


class AlreadyExists(ContainerdError):
    """An object of that name is there."""


class FailedPrecondition(ContainerdError):
    """The object's state does not allow it."""


class RuntimeUnavailable(ContainerdError):
    """containerd does not answer: back off and retry. What was asked may or may not have happened."""


_BY_CODE: Final[dict[grpc.StatusCode, type[ContainerdError]]] = {
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.UNAVAILABLE: RuntimeUnavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: RuntimeUnavailable,
    grpc.StatusCode.CANCELLED: RuntimeUnavailable,
}


@contextmanager
def translated() -> Iterator[None]:
    """gRPC's errors as ours."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        kind = _BY_CODE.get(error.code(), ContainerdError)
        raise kind(error.details() or error.code().name.lower()) from None


class Client:
    """A connection to one containerd, in one of its namespaces; an async context manager.

    The stubs are attributes; `call` and `stream` run their methods. No attempt is made to reach the socket before the
    first call, and a lost connection is made again by gRPC, at most a second after containerd is back.
    """

    def __init__(self, socket: Path, namespace: str) -> None:
        self.namespace = namespace
        self._socket = socket
        self._metadata: tuple[tuple[str, str], ...] = (("containerd-namespace", namespace),)

    async def __aenter__(self) -> Self:
        self.channel = grpc.aio.insecure_channel(
            f"unix:{self._socket}",
            options=[
                ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
                ("grpc.max_send_message_length", _LARGEST_MESSAGE),
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.min_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 1000),
                # Two clients of one socket in a process (the agent's and a benchmark's) do not share a connection.
                ("grpc.use_local_subchannel_pool", 1),
            ],
        )
        self.containers = containers_pb2_grpc.ContainersStub(self.channel)
        self.content = content_pb2_grpc.ContentStub(self.channel)
        self.events = events_pb2_grpc.EventsStub(self.channel)
        self.images = images_pb2_grpc.ImagesStub(self.channel)
        self.leases = leases_pb2_grpc.LeasesStub(self.channel)
        self.snapshots = snapshots_pb2_grpc.SnapshotsStub(self.channel)
        self.tasks = tasks_pb2_grpc.TasksStub(self.channel)
        self.cri_images = cri_pb2_grpc.ImageServiceStub(self.channel)
        self._version = version_pb2_grpc.VersionStub(self.channel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.channel.close()

    async def call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Q, R],
        request: Q,
        *,
        timeout: float | None = SHORT,
        lease: str = "",
    ) -> R:
        """The answer of `method`; what it makes belongs to `lease` where one is named.

        Raises ContainerdError; of a namespace that is not there yet, NotFound.
        """
        metadata = (*self._metadata, ("containerd-lease", lease)) if lease else self._metadata
        with translated():
            return await method(request, timeout=timeout, metadata=metadata)

    async def stream(
        self, method: grpc.aio.UnaryStreamMultiCallable[Q, R], request: Q, *, timeout: float | None = SHORT
    ) -> AsyncGenerator[R, None]:
        """The answers of `method`, one after another. Raises ContainerdError."""
        with translated():
            async for answer in method(request, timeout=timeout, metadata=self._metadata):
                yield answer

    async def version(self) -> str:
        """What containerd says it is, as in `1.6.20~ds1`."""
        return (await self.call(self._version.Version, Empty(), timeout=SHORT)).version
