"""Pods.Logs and Pods.Exec: the client's end of streams to the agent of the pod's node.

The replica that has the agent's session joins the two; any other hands the call on to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
import grpc.aio

from controlplane.http2 import Context
from controlplane.services import lifecycle
from controlplane.services.verbs import answer_errors, parse
from controlplane.sessions.agents import Agents, node_of
from controlplane.sessions.broker import Relay
from controlplane.sessions.forwarding import Peers, is_away, is_forwarded, tell_joined
from controlplane.sessions.session import Session
from controlplane.store.cache import Cache
from podwire import errors, kinds, v1
from podwire.keys import join_key

_LOGS: Final = f"/{kinds.POD.service}/Logs"
_EXEC: Final = f"/{kinds.POD.service}/Exec"


class PodStreams:
    def __init__(self, cache: Cache, agents: Agents, peers: Peers) -> None:
        self._cache = cache
        self._agents = agents
        self._peers = peers

    def handler(self) -> grpc.GenericRpcHandler:
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Logs": grpc.unary_stream_rpc_method_handler(self._logs),
            "Exec": grpc.stream_stream_rpc_method_handler(self._exec),
        }
        return grpc.method_handlers_generic_handler(kinds.POD.service, handlers)

    async def _logs(self, data: bytes, context: Context) -> None:
        await answer_errors(context, _LOGS, self._send_logs(data, context))

    async def _send_logs(self, data: bytes, context: Context) -> None:
        request = parse(v1.LogsRequest, data)
        pod = await self._pod(request)
        request.container = _container(pod, request.container)

        async def here(session: Session) -> None:
            stream = v1.OpenStream(logs=request)
            async with self._agents.broker.open(session.node_name, session.send, stream) as relay:
                await tell_joined(context)
                while (frame := await relay.outputs.get()) is not None:
                    if frame.WhichOneof("frame") == "logs_ended":
                        return
                    await context.write(frame.logs.SerializeToString())
            raise errors.NodeUnreachable("the node's agent went away before the end of the log")

        async def there(address: str) -> None:
            await self._peers.forward(address, _LOGS, data, context, more=False)

        await self._at_the_session(node_of(pod), context, here, there)

    async def _exec(self, requests: Any, context: Context) -> None:
        await answer_errors(context, _EXEC, self._join_exec(context))

    async def _join_exec(self, context: Context) -> None:
        data = await context.read()
        if data is grpc.aio.EOF or not (first := parse(v1.ExecInput, data)).HasField("start"):
            raise errors.Invalid("an exec begins with its start message")
        start = first.start
        if not start.command:
            raise errors.Invalid("an exec needs a command")
        pod = await self._pod(start)
        start.container = _container(pod, start.container)

        async def here(session: Session) -> None:
            stream = v1.OpenStream(exec=start)
            async with self._agents.broker.open(session.node_name, session.send, stream) as relay:
                await tell_joined(context)
                inputs = asyncio.create_task(_take_inputs(context, relay), name="inputs of an exec")
                try:
                    await _send_outputs(relay, context)
                finally:
                    inputs.cancel()
                    await asyncio.wait([inputs])

        async def there(address: str) -> None:
            await self._peers.forward(address, _EXEC, data, context, more=True)

        await self._at_the_session(node_of(pod), context, here, there)

    async def _at_the_session(
        self,
        node_name: str,
        context: Context,
        here: Callable[[Session], Awaitable[None]],
        there: Callable[[str], Awaitable[None]],
    ) -> None:
        """Serves a call where the node's agent has its session; a session that moves meanwhile is followed once."""

        async def once() -> None:
            session = self._agents.session_of(node_name)
            if session is not None:
                await here(session)
            elif is_forwarded(context):
                raise self._agents.no_session(node_name)
            else:
                await there(self._agents.replica_of(node_name))

        try:
            await once()
        except errors.NodeUnreachable as error:
            if is_forwarded(context) or not is_away(error):
                raise
            await self._cache.wait_fresh()
            await once()

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
