"""gRPC probes: the standard health service (grpc.health.v1) must say SERVING."""

from __future__ import annotations

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from nodeagent.probes.http import USER_AGENT
from nodeagent.probes.verdicts import Answer, Result
from podwire import v1


async def probe(action: v1.GRPCAction, address: str, timeout: float) -> Answer:
    """`address` is the pod's; `timeout` in seconds. The messages are Kubernetes'."""
    host = f"[{address}]" if ":" in address else address
    target = f"{host}:{action.port}"
    options = (("grpc.primary_user_agent", USER_AGENT), ("grpc.enable_http_proxy", 0))
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=action.service), timeout=timeout)
        except grpc.aio.AioRpcError as error:
            return Answer(Result.FAILURE, _failure(error, target, timeout))
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return Answer(Result.SUCCESS)
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return Answer(Result.FAILURE, f'service unhealthy (responded with "{status}")')


def _failure(error: grpc.aio.AioRpcError, target: str, timeout: float) -> str:
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return (
            f"error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {error.details()}"
        )
    if error.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE):
        return f'timeout: failed to connect service "{target}" within {timeout:g}s: {error.details()}'
    return f"error: health rpc probe failed: {error.details()}"
