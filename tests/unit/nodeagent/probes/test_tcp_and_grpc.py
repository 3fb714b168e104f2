"""TCP and gRPC probes against real servers on loopback."""

from __future__ import annotations

import asyncio
import socket

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from nodeagent.probes import grpc as grpc_probe
from nodeagent.probes import tcp
from nodeagent.probes.verdicts import Answer, Result
from podwire import v1


def unused_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


async def tcp_probe(port: int) -> Answer:
    action = v1.TCPSocketAction(port=v1.IntOrString(int=port))
    return await tcp.probe(action, v1.Container(name="web"), "127.0.0.1", 1)


async def test_a_port_that_takes_connections_is_success() -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        assert await tcp_probe(server.sockets[0].getsockname()[1]) == Answer(Result.SUCCESS)


async def test_a_port_that_refuses_is_failure() -> None:
    port = unused_port()
    answer = await tcp_probe(port)
    assert answer == Answer(Result.FAILURE, f"dial tcp 127.0.0.1:{port}: connect: connection refused")


async def test_the_health_service_decides() -> None:
    servicer = health.aio.HealthServicer()
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    await servicer.set("db", health_pb2.HealthCheckResponse.NOT_SERVING)
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        assert await grpc_probe.probe(v1.GRPCAction(port=port), "127.0.0.1", 2) == Answer(Result.SUCCESS)
        db = await grpc_probe.probe(v1.GRPCAction(port=port, service="db"), "127.0.0.1", 2)
        assert db == Answer(Result.FAILURE, 'service unhealthy (responded with "NOT_SERVING")')
    finally:
        await server.stop(None)


async def test_a_server_without_the_health_service_is_failure() -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        answer = await grpc_probe.probe(v1.GRPCAction(port=port), "127.0.0.1", 2)
    finally:
        await server.stop(None)
    assert answer.result is Result.FAILURE
    assert "does not implement the grpc health protocol" in answer.message


async def test_a_grpc_server_that_is_not_there_is_failure() -> None:
    port = unused_port()
    answer = await grpc_probe.probe(v1.GRPCAction(port=port), "127.0.0.1", 0.5)
    assert answer.result is Result.FAILURE
    assert answer.message.startswith(f'timeout: failed to connect service "127.0.0.1:{port}" within 0.5s')
