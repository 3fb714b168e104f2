"""A server of ours for a test, and grpcio's own client of it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio

from controlplane.http2 import Options, Server, server_tls
from lab.certificates import Authority
from podwire.client import Tls

SERVICE: Final = "test.Test"
HOST: Final = "127.0.0.1"
KIB: Final = 1024
MIB: Final = 1024 * 1024
ORGANIZATION: Final = "podwire:testers"

# Windows stay as they begin, at 64 KiB; every channel has connections of its own; messages are as large as they like.
CLIENT_OPTIONS: Final = (
    ("grpc.http2.bdp_probe", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)


def unary(handler: Any, **codecs: Any) -> grpc.RpcMethodHandler[Any, Any]:
    return grpc.unary_unary_rpc_method_handler(handler, **codecs)


def answers(handler: Any, **codecs: Any) -> grpc.RpcMethodHandler[Any, Any]:
    """Of a method that takes one message and answers with many."""
    return grpc.unary_stream_rpc_method_handler(handler, **codecs)


def both_ways(handler: Any, **codecs: Any) -> grpc.RpcMethodHandler[Any, Any]:
    return grpc.stream_stream_rpc_method_handler(handler, **codecs)


def add(server: Server, **methods: grpc.RpcMethodHandler[Any, Any]) -> None:
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))


def path(method: str) -> str:
    return f"/{SERVICE}/{method}"


def socket_of(folder: Path) -> Path:
    return folder / "s"


def connected(target: str, *options: tuple[str, Any], **more: Any) -> Any:
    """A channel, whose types know no messages without a class."""
    return grpc.aio.insecure_channel(target, options=(*CLIENT_OPTIONS, *options), **more)


@asynccontextmanager
async def serving(folder: Path, options: Options | None = None, **methods: Any) -> AsyncIterator[tuple[Server, Any]]:
    """On a unix socket in `folder`, with a client."""
    server = Server(options)
    add(server, **methods)
    server.listen_unix(socket_of(folder))
    await server.start()
    try:
        async with connected(f"unix:{socket_of(folder)}") as channel:
            yield server, channel
    finally:
        await server.stop(0)


@asynccontextmanager
async def serving_tls(folder: Path, **methods: grpc.RpcMethodHandler[Any, Any]) -> AsyncIterator[tuple[Server, int]]:
    """On a port of the loopback, for clients with certificates of the authority in `folder`."""
    server = Server()
    add(server, **methods)
    server.listen(f"{HOST}:0", tls_of(folder))
    await server.start()
    try:
        yield server, port_of(server)
    finally:
        await server.stop(0)


def port_of(server: Server) -> int:
    bound, _ = server._listeners[-1]
    port = bound.getsockname()[1]
    assert isinstance(port, int)
    return port


def certificates(folder: Path, name: str) -> Tls:
    """A certificate for both ends by the authority of `folder`, which is made where there is none."""
    now = datetime.now(UTC)
    authority = Authority.in_folder(folder, name="a test's CA", now=now)
    authority.issue(name, organization=ORGANIZATION, addresses=[IPv4Address(HOST)], names=[], now=now)
    return Tls(folder / "ca.crt", folder / f"{name}.crt", folder / f"{name}.key")


def tls_of(folder: Path) -> ssl.SSLContext:
    files = certificates(folder, "server")
    return server_tls(files.ca, files.cert, files.key)


def client_tls(folder: Path, name: str = "alice", *, alpn: bool = True) -> ssl.SSLContext:
    """For clients that are not grpcio's."""
    files = certificates(folder, name)
    context = ssl.create_default_context(cafile=str(files.ca))
    context.load_cert_chain(str(files.cert), str(files.key))
    if alpn:
        context.set_alpn_protocols(["h2"])
    return context


def connected_tls(port: int, authority: Path, shown: Tls | None) -> Any:
    """A client that trusts `authority`, and shows a certificate or none."""
    pair = (None, None) if shown is None else (shown.key.read_bytes(), shown.cert.read_bytes())
    credentials = grpc.ssl_channel_credentials((authority / "ca.crt").read_bytes(), *pair)
    return grpc.aio.secure_channel(f"{HOST}:{port}", credentials, options=CLIENT_OPTIONS)


async def until(condition: Callable[[], bool]) -> None:
    """For what tells no event."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def failure(call: Any) -> grpc.aio.AioRpcError:
    """What a call fails with, within ten seconds."""
    try:
        async with asyncio.timeout(10):
            await call
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("the call has not failed")


async def echo(request: Any, context: Any) -> Any:
    return request


class Stuck:
    """A handler that goes on for as long as it is let."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.context: Any = None

    async def __call__(self, request: Any, context: Any) -> bytes:
        self.context = context
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return b""


async def counted(request: bytes, context: Any) -> AsyncIterator[bytes]:
    for number in range(int(request)):
        yield b"%d" % number


async def wait(event: asyncio.Event) -> None:
    async with asyncio.timeout(10):
        await event.wait()
