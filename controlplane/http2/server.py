"""Where connections come in, and what all of them share."""

from __future__ import annotations

import asyncio
import socket
import ssl
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

import grpc

from controlplane import shared_address
from controlplane.http2 import headers
from controlplane.http2.accepted import ServerConnection
from controlplane.http2.connection import Options

# Connections that the kernel keeps until they are accepted.
_BACKLOG: Final = 1024
# Seconds: for a client's part of TLS's handshake, and for connections to end once their calls have.
_HANDSHAKE_SECONDS: Final = 10.0
_CLOSING_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Details(grpc.HandlerCallDetails):
    method: str
    invocation_metadata: headers.Metadata


class Server:
    """Takes handlers as `grpc.aio.Server` does, also from the generated `add_…_to_server`."""

    def __init__(self, options: Options | None = None) -> None:
        """To be made in the loop that it serves in."""
        self.options = options or Options()
        self.loop = asyncio.get_running_loop()
        # Whoever connects from now on has come too late.
        self.stopped = False
        self.connections: set[ServerConnection] = set()
        self.numbers = count(1)
        self._handlers: list[grpc.GenericRpcHandler] = []
        # Of methods that exist: what clients make up is not remembered.
        self._methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        # Bound; the unix sockets among them with the file that each one made.
        self._listeners: list[tuple[socket.socket, ssl.SSLContext | None]] = []
        self._files: list[tuple[Path, int]] = []
        self._servers: list[asyncio.Server] = []

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self._handlers += handlers

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """Generated code names them once more, for servers that know methods beforehand."""

    def handler_of(self, request: headers.Request) -> grpc.RpcMethodHandler[Any, Any] | None:
        known = self._methods.get(request.path)
        if known is None:
            details = _Details(request.path, request.metadata)
            found = (handlers.service(details) for handlers in self._handlers)
            known = next((handler for handler in found if handler is not None), None)
            if known is not None:
                self._methods[request.path] = known
        return known

    def listen(self, address: str, tls: ssl.SSLContext, *, shared: bool = False) -> None:
        """Binds HOST:PORT, `shared` with others who do so. Clients wait until `start`. Raises AddressTakenError."""
        for bound in shared_address.bound(address, shared=shared):
            self._listeners.append((bound, tls))
            _listen(bound, address)

    def listen_unix(self, path: Path) -> None:
        """Binds a unix socket in place of one that was there, for clients that need show nothing."""
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
            path.unlink()
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listeners.append((bound, None))
        try:
            bound.bind(str(path))
        except OSError as error:
            raise shared_address.AddressTakenError(f"cannot listen on {path}: {error.strerror or error}") from None
        self._files.append((path, path.stat().st_ino))
        _listen(bound, str(path))

    async def start(self) -> None:
        for bound, tls in self._listeners:
            if tls is None:
                server = await self.loop.create_unix_server(lambda: ServerConnection(self, tls=False), sock=bound)
            else:
                server = await self.loop.create_server(
                    lambda: ServerConnection(self, tls=True),
                    sock=bound,
                    ssl=tls,
                    ssl_handshake_timeout=_HANDSHAKE_SECONDS,
                    backlog=_BACKLOG,
                )
            self._servers.append(server)

    async def stop(self, grace: float) -> None:
        """Takes no more calls, waits `grace` seconds for those that run, then ends them."""
        self.stopped = True
        for server in self._servers:
            server.close()
        for bound, _ in self._listeners:
            bound.close()
        for path, inode in self._files:
            # A successor may have put its own there.
            if path.exists() and path.stat().st_ino == inode:
                path.unlink()
        for connection in list(self.connections):
            connection.stop()
        await self._wait_for_calls(grace)
        for connection in list(self.connections):
            connection.end_calls(grpc.StatusCode.UNAVAILABLE, "the server stops")
        await self._wait_for_calls(_CLOSING_SECONDS)
        ends = self.loop.time() + _CLOSING_SECONDS
        for connection in list(self.connections):
            connection.close()
        for connection in list(self.connections):
            await connection.wait_lost(ends - self.loop.time())

    async def _wait_for_calls(self, seconds: float) -> None:
        running = {task for connection in self.connections for task in connection.running}
        if running:
            await asyncio.wait(running, timeout=seconds)


def _listen(bound: socket.socket, address: str) -> None:
    try:
        bound.listen(_BACKLOG)
    except OSError as error:
        # Another one was faster, between the two steps.
        raise shared_address.AddressTakenError(f"cannot listen on {address}: {error.strerror or error}") from None
