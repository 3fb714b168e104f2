"""grpc.channelz.v1 for the server's own connections; what grpcio knows of this process's clients comes from grpcio."""

from __future__ import annotations

import ipaddress
from typing import Any, Final

import grpc
from grpc_channelz.v1 import channelz, channelz_pb2

from controlplane.http2.accepted import ServerConnection
from controlplane.http2.server import Server

# Numbers that grpcio, which counts from one, does not reach.
_SERVER: Final = 1 << 40


class Channelz(channelz.aio.ChannelzServicer):  # type: ignore[misc]  # It has no types.
    def __init__(self, server: Server) -> None:
        self._server = server

    async def GetServers(self, request: Any, context: Any) -> Any:
        return channelz_pb2.GetServersResponse(server=[self._shown()], end=True)

    async def GetServer(self, request: Any, context: Any) -> Any:
        await self._check(request.server_id, context)
        return channelz_pb2.GetServerResponse(server=self._shown())

    async def GetServerSockets(self, request: Any, context: Any) -> Any:
        await self._check(request.server_id, context)
        found = sorted(self._sockets())
        wanted = [number for number in found if number >= request.start_socket_id]
        page = wanted[: request.max_results or None]
        refs = [channelz_pb2.SocketRef(socket_id=number) for number in page]
        return channelz_pb2.GetServerSocketsResponse(socket_ref=refs, end=len(page) == len(wanted))

    async def GetSocket(self, request: Any, context: Any) -> Any:
        connection = self._sockets().get(request.socket_id)
        if connection is not None:
            return channelz_pb2.GetSocketResponse(socket=_socket(request.socket_id, connection))
        if request.socket_id > _SERVER:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no socket {request.socket_id}")
        return await channelz.aio.ChannelzServicer.GetSocket(request, context)

    def _sockets(self) -> dict[int, ServerConnection]:
        return {_SERVER + connection.number: connection for connection in self._server.connections}

    def _shown(self) -> Any:
        begun = sum(connection.calls_begun for connection in self._server.connections)
        data = channelz_pb2.ServerData(calls_started=begun)
        return channelz_pb2.Server(ref=channelz_pb2.ServerRef(server_id=_SERVER, name="API"), data=data)

    async def _check(self, number: int, context: Any) -> None:
        if number != _SERVER:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no server {number}")


def _socket(number: int, connection: ServerConnection) -> Any:
    ended = connection.calls_ended
    data = channelz_pb2.SocketData(
        streams_started=connection.calls_begun,
        streams_succeeded=ended,
        streams_failed=connection.calls_begun - ended - len(connection.streams),
        messages_sent=connection.messages_sent,
        messages_received=connection.messages_received,
        keep_alives_sent=connection.pings_sent,
    )
    shown = channelz_pb2.Socket(ref=channelz_pb2.SocketRef(socket_id=number), data=data)
    if connection.peer:
        address, port = connection.peer[:2]
        shown.remote.tcpip_address.ip_address = ipaddress.ip_address(address).packed
        shown.remote.tcpip_address.port = port
    return shown
