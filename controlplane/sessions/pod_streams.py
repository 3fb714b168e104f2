"""Pods.Logs and Pods.Exec: the client's end of streams to the agent of the pod's node."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio

from controlplane.services import lifecycle
from controlplane.services.verbs import Context, answer_errors, parse
from controlplane.sessions.agents import Agents, node_of
from controlplane.sessions.broker import Relay
from controlplane.store.cache import Cache
from podwire import errors, kinds, v1
from podwire.keys import join_key


class PodStreams:
    def __init__(self, cache: Cache, agents: Agents) -> None:
        self._cache = cache
        self._agents = agents

    def handler(self) -> grpc.GenericRpcHandler:
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Logs": grpc.unary_stream_rpc_method_handler(self._logs),
            "Exec": grpc.stream_stream_rpc_method_handler(self._exec),
        }
        return grpc.method_handlers_generic_handler(kinds.POD.service, handlers)

    async def _logs(self, data: bytes, context: Context) -> None:
        await answer_errors(context, f"{kinds.POD.service}/Logs", self._send_logs(data, context))

    async def _send_logs(self, data: bytes, context: Context) -> None:
        request = parse(v1.LogsRequest, data)
        pod = await self._pod(request)
        request.container = _container(pod, request.container)
        session = self._agents.session_of(node_of(pod))
        async with self._agents.broker.open(session.node_name, session.send, v1.OpenStream(logs=request)) as relay:
            while (frame := await relay.outputs.get()) is not None:
                if frame.WhichOneof("frame") == "logs_ended":
                    return
                await context.write(frame.logs.SerializeToString())
        raise errors.NodeUnreachable("the node's agent went away before the end of the log")

    async def _exec(self, requests: Any, context: Context) -> None:
        await answer_errors(context, f"{kinds.POD.service}/Exec", self._join_exec(context))

    async def _join_exec(self, context: Context) -> None:
        data = await context.read()
        if data is grpc.aio.EOF or not (first := parse(v1.ExecInput, data)).HasField("start"):
            raise errors.Invalid("an exec begins with its start message")
        start = first.start
        if not start.command:
            raise errors.Invalid("an exec needs a command")
        pod = await self._pod(start)
        start.container = _container(pod, start.container)
        session = self._agents.session_of(node_of(pod))
        async with self._agents.broker.open(session.node_name, session.send, v1.OpenStream(exec=start)) as relay:
            inputs = asyncio.create_task(_take_inputs(context, relay), name="inputs of an exec")
            try:
                await _send_outputs(relay, context)
            finally:
                inputs.cancel()
                await asyncio.wait([inputs])

    async def _pod(self, request: v1.LogsRequest | v1.ExecStart) -> v1.Pod:
        request.namespace = request.namespace or lifecycle.DEFAULT_NAMESPACE
        key = join_key(request.namespace, request.name)
        await self._cache.wait_fresh()
        entry = self._cache.of(kinds.POD).entries.get(key)
        if entry is None:
            raise lifecycle.not_found(kinds.POD, key)
        pod: v1.Pod = entry.message()
        return pod


async def _take_inputs(context: Context, relay: Relay) -> None:
    """Until the client ends its side: what it has to say about stdin's end is a message of its own."""
    try:
        while (data := await context.read()) is not grpc.aio.EOF:
            await relay.inputs.put(parse(v1.ExecInput, data))
    except errors.PodwireError as error:
        relay.close(error)


async def _send_outputs(relay: Relay, context: Context) -> None:
    while (frame := await relay.outputs.get()) is not None:
        await context.write(frame.exec.SerializeToString())
        if frame.exec.WhichOneof("output") == "exit_code":
            return
    raise errors.NodeUnreachable("the node's agent ended the exec without an exit code")


def _container(pod: v1.Pod, name: str) -> str:
    """The container that is meant: the only one, where none is named."""
    names = [container.name for container in (*pod.spec.containers, *pod.spec.init_containers)]
    if not name and len(pod.spec.containers) == 1:
        return pod.spec.containers[0].name
    if name in names:
        return name
    problem = f"there is no container {name!r}" if name else "a container must be named"
    raise errors.Invalid.fields(
        "the request", [errors.FieldError("container", f"{problem}: the pod has {', '.join(names)}")]
    )
