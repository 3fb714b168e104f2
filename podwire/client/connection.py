"""The way to a control plane: one gRPC channel an endpoint, the calls made on it, and moving on when it fails.

Several endpoints are several channels, not one channel with a list of addresses, because each server's certificate is
checked against the address that it was reached at, and because a unix socket and addresses may stand side by side.

Every call first waits for a connected channel, so that an unreachable server is found before anything is sent. What
is then sent again after a failure is up to the policy (`retrying`): reads, and writes that were refused. A write of
which nobody knows whether it happened, after UNAVAILABLE or a deadline, is sent once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.message import Message

from podwire import __version__, errors
from podwire.backoff import Backoff
from podwire.client.retrying import RetryPolicy, persist
from podwire.logs import Logger

log = Logger(__name__)

_MIB: Final = 1024 * 1024
# A dead peer is noticed within 10 s also where packets are dropped and not reset: a ping after 5 s of silence, and 4 s
# for its answer. Servers must allow pings that often (ours do; gRPC's default allows one in 5 minutes).
_KEEPALIVE_TIME_MS: Final = 5_000
_KEEPALIVE_TIMEOUT_MS: Final = 4_000
CHANNEL_OPTIONS: Final[tuple[tuple[str, Any], ...]] = (
    ("grpc.keepalive_time_ms", _KEEPALIVE_TIME_MS),
    ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
    # gRPC pings beside data too, and while such a ping is on its way it sends none to keep alive: with its default of
    # 60 s for the answer, a server that goes silent under load would be waited for that long.
    ("grpc.http2.ping_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Pages and batches end at 2 MiB, an object at 1.5 MiB; the default of 4 MiB leaves no room for one large object
    # at the end of a page.
    ("grpc.max_receive_message_length", 16 * _MIB),
    ("grpc.max_send_message_length", 16 * _MIB),
    # gRPC's own waits up to 120 s between attempts, and 20 s for each.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    # A client's state is its own: another client's failing connection must not delay it.
    ("grpc.use_local_subchannel_pool", 1),
    # Control planes are reached directly; a proxy meant for the web would break streams.
    ("grpc.enable_http_proxy", 0),
    ("grpc.primary_user_agent", f"podwire-client/{__version__}"),
)


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files: the CA that signed the servers, and what this client shows them."""

    ca: Path
    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Fence:
    """The election that a leader holds: the key of its candidacy and the etcd revision that created it.

    Sent with every write; the store compares it in the write's own transaction, so that a leader that was frozen and
    replaced cannot write any more (errors.Fenced).
    """

    key: str
    create_revision: int


@dataclass(frozen=True, slots=True)
class Settings:
    """Times in seconds. Tests shorten them; nothing else has a reason to."""

    # Of calls that are made with no policy of their own, and between the attempts of a watch to reconnect.
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    # For one attempt of a call, server's work included. A server itself gives etcd 5 s at most.
    call_timeout: float = 30.0
    # How often an idle watch gets a bookmark, and how long a silent one is believed: a bookmark may be late by half.
    bookmark_interval: int = 10
    silence: float = 15.0
    # Watchers whose history a server has lost list again within so many seconds, each at a moment of its own: 200 lists
    # of 5 MB are five seconds' work.
    relist_spread: float = 2.0


@dataclass(eq=False)
class Endpoint:
    """One server's channel, and the callables made on it."""

    address: str
    channel: grpc.aio.Channel
    callables: dict[tuple[str, str], Any] = field(default_factory=dict)

    def callable(self, shape: str, method: str, response: type[Message]) -> Any:
        """`shape` is the channel's method: unary_unary, unary_stream or stream_stream."""
        made = self.callables.get((shape, method))
        if made is None:
            made = getattr(self.channel, shape)(
                method, request_serializer=_serialized, response_deserializer=response.FromString
            )
            self.callables[shape, method] = made
        return made

    def state(self) -> grpc.ChannelConnectivity:
        """How the connection is; an idle one starts to connect."""
        return self.channel.get_state(try_to_connect=True)


def _serialized(message: Message) -> bytes:
    # Not Message.SerializeToString: that is the abstract one.
    return message.SerializeToString()


def _open(address: str, tls: Tls | None) -> Endpoint:
    if address.startswith("unix:") or tls is None:
        # A socket file's permissions say who may use it.
        return Endpoint(address, grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS))
    credentials = grpc.ssl_channel_credentials(tls.ca.read_bytes(), tls.key.read_bytes(), tls.cert.read_bytes())
    return Endpoint(address, grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS))


class Connection:
    """Calls to whichever of `endpoints` answers, beginning with the first."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        tls: Tls | None = None,
        fence: Fence | None = None,
        settings: Settings | None = None,
    ) -> None:
        if not endpoints:
            raise ValueError("a connection needs at least one endpoint")
        self.settings = settings or Settings()
        self._endpoints = [_open(address, tls) for address in endpoints]
        self._current = 0
        # With every call, reads too: a server that has much to do knows its leaders by it.
        self._fence = (("podwire-fence", f"{fence.create_revision}:{fence.key}"),) if fence else ()

    @property
    def channel(self) -> grpc.aio.Channel:
        """The channel in use. Ask again before every stream: it changes when the client has moved on."""
        endpoint = self._endpoints[self._current]
        if endpoint.state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            endpoint = self.leave(endpoint)
        return endpoint.channel

    async def close(self) -> None:
        for endpoint in self._endpoints:
            await endpoint.channel.close()

    def backoff(self) -> Backoff:
        return self.settings.retry.backoff()

    def relist_delay(self) -> float:
        """Seconds to wait before listing again what all watchers of the server lost at the same moment."""
        return random.uniform(0.0, self.settings.relist_spread)

    async def read(
        self, method: str, request: Message, response: type[Message], retry: RetryPolicy | None = None
    ) -> Any:
        """A call that changes nothing: another attempt goes elsewhere if there is an elsewhere."""
        policy = retry or self.settings.retry
        attempt = partial(self._call, method, request, response, policy, metadata=self._fence)
        return await persist(policy, attempt, write=False, at_least=len(self._endpoints))

    async def write(
        self, method: str, request: Message, response: type[Message], retry: RetryPolicy | None = None
    ) -> Any:
        """A call that changes something: sent again only where it was refused."""
        policy = retry or self.settings.retry
        attempt = partial(self._call, method, request, response, policy, metadata=self._fence)
        return await persist(policy, attempt, write=True)

    async def write_with_trailers(
        self, method: str, request: Message, response: type[Message], retry: RetryPolicy | None = None
    ) -> tuple[Any, list[tuple[str, str]]]:
        """Like `write`, with the trailing metadata of the answer."""

        async def trailers(call: grpc.aio.UnaryUnaryCall[Any, Any]) -> tuple[Any, list[tuple[str, str]]]:
            answer = await call
            return answer, [(key, str(value)) for key, value in await call.trailing_metadata()]

        policy = retry or self.settings.retry
        attempt = partial(self._call, method, request, response, policy, metadata=self._fence, finish=trailers)
        answer: tuple[Any, list[tuple[str, str]]] = await persist(policy, attempt, write=True)
        return answer

    async def open(self, shape: str, method: str, response: type[Message], *request: Message) -> Stream:
        """A stream: `shape` is unary_stream (with its request) or stream_stream."""
        endpoint = await self.ready()
        return Stream(self, endpoint, endpoint.callable(shape, method, response)(*request, metadata=self._fence))

    async def _call(
        self,
        method: str,
        request: Message,
        response: type[Message],
        policy: RetryPolicy,
        *,
        metadata: tuple[tuple[str, str], ...] = (),
        finish: Callable[[Any], Awaitable[Any]] | None = None,
    ) -> Any:
        endpoint = await self.ready(policy.patience)
        call = endpoint.callable("unary_unary", method, response)(
            request, timeout=self.settings.call_timeout, metadata=metadata
        )
        try:
            return await (finish(call) if finish else call)
        except grpc.aio.AioRpcError as error:
            raise self.failed(endpoint, error) from None

    def failed(self, endpoint: Endpoint, error: grpc.aio.AioRpcError) -> errors.PodwireError:
        """What `error` means; where the server is the trouble, the next call goes to another."""
        meaning = errors.from_rpc_error(error)
        if isinstance(meaning, errors.Unavailable | errors.Overloaded | errors.Timeout):
            self.leave(endpoint)
        return meaning

    async def ready(self, patience: float | None = None) -> Endpoint:
        """A connected endpoint, or Unavailable when patience (seconds; the settings' by default) runs out."""
        endpoint = self._endpoints[self._current]
        if endpoint.state() is grpc.ChannelConnectivity.READY:
            return endpoint
        try:
            async with asyncio.timeout(self.settings.retry.patience if patience is None else patience):
                return await self._connected()
        except TimeoutError:
            addresses = ", ".join(endpoint.address for endpoint in self._endpoints)
            raise errors.Unavailable(f"no control plane answers at {addresses}: is it running?") from None

    async def _connected(self) -> Endpoint:
        backoff = self.backoff()
        failed_in_a_row = 0
        while True:
            endpoint = self._endpoints[self._current]
            state = endpoint.state()
            if state is grpc.ChannelConnectivity.READY:
                return endpoint
            if state is not grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                await endpoint.channel.wait_for_state_change(state)
                continue
            self.leave(endpoint)
            failed_in_a_row += 1
            if failed_in_a_row >= len(self._endpoints):
                failed_in_a_row = 0
                await asyncio.sleep(backoff.next())

    def leave(self, endpoint: Endpoint) -> Endpoint:
        """Moves on from `endpoint`, unless another caller has done so already; the one that is used from now on."""
        if self._endpoints[self._current] is endpoint and len(self._endpoints) > 1:
            self._current = (self._current + 1) % len(self._endpoints)
            log.info(
                "moving on to another endpoint", failed=endpoint.address, next=self._endpoints[self._current].address
            )
        return self._endpoints[self._current]


class Stream:
    """A stream that is open: reads raise podwire.errors; a cancelled read ends it, as gRPC does."""

    def __init__(self, connection: Connection, endpoint: Endpoint, call: Any) -> None:
        self._connection = connection
        self._endpoint = endpoint
        self._call = call

    async def read(self) -> Any | None:
        """The next message, or None when the server ended the stream."""
        try:
            message = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise self._connection.failed(self._endpoint, error) from None
        return None if message is grpc.aio.EOF else message

    async def write(self, message: Message) -> None:
        try:
            await self._call.write(message)
        except grpc.aio.AioRpcError as error:
            raise self._connection.failed(self._endpoint, error) from None
        except asyncio.InvalidStateError:
            # gRPC's answer to a write on a stream that the server has ended; a read says why.
            raise errors.Unavailable(f"the stream to {self._endpoint.address} has ended") from None

    async def done_writing(self) -> None:
        try:
            await self._call.done_writing()
        except grpc.aio.AioRpcError as error:
            raise self._connection.failed(self._endpoint, error) from None

    def gone_silent(self, seconds: float) -> errors.Unavailable:
        """What it means that nothing came for longer than it may: the server is left, whatever its connection says."""
        self._connection.leave(self._endpoint)
        return errors.Unavailable(f"{self._endpoint.address} was silent for {seconds:g} s")

    def cancel(self) -> None:
        self._call.cancel()
