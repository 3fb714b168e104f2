"""Agents' sessions, with an agent that does what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import grpc.aio
import pytest

from controlplane.settings import LoadLimits, Room
from podwire import errors, v1
from podwire.client import Client
from podwire.errors import from_rpc_error
from podwire.v1.agents_pb2_grpc import AgentsStub
from tests.integration.controlplane.etcd_server import EtcdServer
from tests.integration.controlplane.network import eventually
from tests.integration.controlplane.replica import Api, pod, running_api


class Agent:
    """One session; answers are kept until the test asks for them."""

    def __init__(self, stub: Any, node: str, *, instance: str = "i1", lease_id: int = 0) -> None:
        self.stub = stub
        self.node = node
        self.call = stub.Session()
        self._hello = v1.Hello(node_name=node, instance=instance, lease_id=lease_id)

    async def begin(self) -> v1.Welcome:
        await self.call.write(v1.AgentMessage(hello=self._hello))
        welcome: v1.Welcome = (await self.read("welcome")).welcome
        return welcome

    async def read(self, expected: str = "") -> v1.ControlMessage:
        try:
            async with asyncio.timeout(20):
                message: Any = await self.call.read()
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        assert message is not grpc.aio.EOF
        if expected:
            assert message.WhichOneof("message") == expected
        answer: v1.ControlMessage = message
        return answer

    async def heartbeat(self, sequence: int = 1) -> None:
        await self.call.write(v1.AgentMessage(heartbeat=v1.Heartbeat(sequence=sequence)))

    async def beat(self) -> None:
        """Heartbeats until it is cancelled; nothing else reads meanwhile."""
        while True:
            await self.heartbeat()
            await self.read("heartbeat")
            await asyncio.sleep(0.2)

    async def report(self, sequence: int, *updates: v1.PodStatusUpdate) -> v1.StatusAck:
        batch = v1.StatusBatch(sequence=sequence, updates=updates)
        await self.call.write(v1.AgentMessage(statuses=batch))
        ack: v1.StatusAck = (await self.read("statuses")).statuses
        return ack


@asynccontextmanager
async def agent_of(api: Api, node: str, **more: Any) -> AsyncIterator[Agent]:
    async with grpc.aio.insecure_channel(api.endpoint, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield Agent(AgentsStub(channel), node, **more)


async def running_pod(client: Client, ns: str, node: str, name: str = "web") -> v1.Pod:
    made = await client.pods.create(pod(name, ns))
    return await client.pods.bind(name, ns, made.metadata.uid, node)


def update(of: v1.Pod, phase: str = "Running") -> v1.PodStatusUpdate:
    meta = of.metadata
    status = v1.PodStatus(phase=phase)
    return v1.PodStatusUpdate(namespace=meta.namespace, name=meta.name, uid=meta.uid, status=status)


async def session_gone(client: Client, node: str) -> bool:
    try:
        await client.node_sessions.get(node)
    except errors.NotFound:
        return True
    return False


async def test_a_session_is_an_object_while_heartbeats_come_and_gone_after(api: Api, ns: str) -> None:
    async with agent_of(api, ns) as agent:
        welcome = await agent.begin()
        assert welcome.lease_ttl.seconds == 5
        session = await api.client.node_sessions.get(ns)
        assert session.spec.lease_id == welcome.lease_id
        assert session.spec.agent_instance == "i1"
        beating = asyncio.create_task(agent.beat())
        with pytest.raises(TimeoutError):
            await eventually(lambda: session_gone(api.client, ns), within=6)
        beating.cancel()
        await asyncio.wait([beating])
    await eventually(lambda: session_gone(api.client, ns), within=10)


async def test_a_session_goes_on_with_its_lease_on_another_replica(api: Api, second_api: Api, ns: str) -> None:
    async with agent_of(api, ns) as first:
        welcome = await first.begin()
    before = await api.client.node_sessions.get(ns)
    async with agent_of(second_api, ns, lease_id=welcome.lease_id) as second:
        assert (await second.begin()).lease_id == welcome.lease_id
        after = await api.client.node_sessions.get(ns)
    assert after.metadata.uid == before.metadata.uid
    assert after.spec.replica_address != before.spec.replica_address


async def test_a_lease_that_has_expired_is_replaced(api: Api, ns: str) -> None:
    async with agent_of(api, ns, lease_id=12345) as agent:
        assert (await agent.begin()).lease_id != 12345


@pytest.mark.parametrize("replica", ["the same", "another"])
async def test_a_newer_session_of_a_node_ends_the_older(api: Api, second_api: Api, ns: str, replica: str) -> None:
    newer_at = api if replica == "the same" else second_api
    async with agent_of(api, ns) as older, agent_of(newer_at, ns, instance="i2") as newer:
        await older.begin()
        await newer.begin()
        with pytest.raises(errors.PreconditionFailed):
            await older.read()
        await newer.heartbeat()
        await newer.read("heartbeat")


async def test_a_silent_session_is_ended(api: Api, ns: str) -> None:
    async with agent_of(api, ns) as agent:
        await agent.begin()
        with pytest.raises(errors.Unavailable, match="heartbeat"):
            await agent.read()


async def test_a_session_begins_with_a_hello(api: Api, ns: str) -> None:
    async with agent_of(api, ns) as agent:
        await agent.heartbeat()
        with pytest.raises(errors.Invalid):
            await agent.read()


async def test_a_hello_names_a_node_as_nodes_are_named(api: Api) -> None:
    async with agent_of(api, "no/node,at=all") as agent:
        with pytest.raises(errors.Invalid, match="nodeName"):
            await agent.begin()


async def test_statuses_are_stored_and_each_gets_its_answer(api: Api, ns: str) -> None:
    mine = [await running_pod(api.client, ns, ns, f"web{n}") for n in range(10)]
    others = await running_pod(api.client, ns, "elsewhere", "other")
    gone = await running_pod(api.client, ns, ns, "gone")
    await api.client.pods.delete("gone", namespace=ns, grace_period_seconds=0)
    anew = await running_pod(api.client, ns, ns, "anew")
    stale = update(anew)
    stale.uid = "an-older-one"
    async with agent_of(api, ns) as agent:
        await agent.begin()
        ack = await agent.report(7, *map(update, mine), update(others), update(gone), stale)
    assert ack.sequence == 7
    assert [result.reason for result in ack.results] == [""] * 10 + ["PRECONDITION_FAILED", "NOT_FOUND", "NOT_FOUND"]
    stored = await api.client.pods.get("web3", namespace=ns)
    assert stored.status.phase == "Running"
    assert [condition.type for condition in stored.status.conditions] == ["PodScheduled"]
    assert (await api.client.pods.get("other", namespace=ns)).status.phase == "Pending"


async def test_the_last_status_of_a_pod_wins(api: Api, ns: str) -> None:
    web = await running_pod(api.client, ns, ns)
    async with agent_of(api, ns) as agent:
        await agent.begin()
        for sequence, phase in enumerate(["Pending", "Running", "Succeeded"]):
            batch = v1.StatusBatch(sequence=sequence, updates=[update(web, phase)])
            await agent.call.write(v1.AgentMessage(statuses=batch))
        acks = [(await agent.read("statuses")).statuses.sequence for _ in range(3)]
    assert acks == [0, 1, 2]
    assert (await api.client.pods.get("web", namespace=ns)).status.phase == "Succeeded"


async def finish(stream: Any) -> None:
    """As an agent ends a stream: gRPC cancels a call that nobody refers to any more, with what is on its way."""
    await stream.done_writing()
    while await stream.read() is not grpc.aio.EOF:
        pass


async def opened(agent: Agent) -> tuple[v1.OpenStream, Any]:
    """What the agent is asked for, and the stream that it opens for it."""
    request = (await agent.read("open_stream")).open_stream
    stream = agent.stub.Stream()
    await stream.write(v1.AgentFrame(stream_id=request.stream_id))
    return request, stream


async def test_logs_come_from_the_agent(api: Api, ns: str) -> None:
    await running_pod(api.client, ns, ns)
    async with agent_of(api, ns) as agent:
        await agent.begin()

        async def serve() -> v1.OpenStream:
            request, stream = await opened(agent)
            for line in (b"one\n", b"two\n"):
                await stream.write(v1.AgentFrame(logs=v1.LogsChunk(data=line)))
            await stream.write(v1.AgentFrame(logs_ended=True))
            await finish(stream)
            return request

        serving = asyncio.create_task(serve())
        logs = [chunk async for chunk in api.client.pods.logs(v1.LogsRequest(namespace=ns, name="web"))]
        assert logs == [b"one\n", b"two\n"]
        assert (await serving).logs.container == "main"


async def test_an_exec_goes_both_ways_and_ends_with_its_exit_code(api: Api, ns: str) -> None:
    await running_pod(api.client, ns, ns)
    async with agent_of(api, ns) as agent:
        await agent.begin()

        async def serve() -> None:
            request, stream = await opened(agent)
            assert list(request.exec.command) == ["cat"]
            while (message := await stream.read()).WhichOneof("input") != "stdin_closed":
                await stream.write(v1.AgentFrame(exec=v1.ExecOutput(stdout=message.stdin)))
            await stream.write(v1.AgentFrame(exec=v1.ExecOutput(exit_code=3)))
            await finish(stream)

        serving = asyncio.create_task(serve())
        start = v1.ExecStart(namespace=ns, name="web", command=["cat"], stdin=True)
        async with api.client.pods.exec(start) as session:
            await session.write(b"hello ")
            await session.write(b"there")
            await session.close_stdin()
            output = b"".join([data async for _, data in session])
        assert (output, session.exit_code) == (b"hello there", 3)
        await serving


@pytest.mark.parametrize("end", ["cancel", "done_writing"])
async def test_a_log_that_the_agent_breaks_off_is_an_error(api: Api, ns: str, end: str) -> None:
    await running_pod(api.client, ns, ns)
    async with agent_of(api, ns) as agent:
        await agent.begin()

        async def break_off() -> None:
            _, stream = await opened(agent)
            await stream.write(v1.AgentFrame(logs=v1.LogsChunk(data=b"one\n")))
            ended = getattr(stream, end)()
            if end == "done_writing":
                await ended

        breaking = asyncio.create_task(break_off())
        with pytest.raises(errors.NodeUnreachable):
            async for _ in api.client.pods.logs(v1.LogsRequest(namespace=ns, name="web", follow=True)):
                pass
        await breaking


@pytest.mark.parametrize("end", ["cancel", "done_writing"])
async def test_an_exec_that_the_agent_breaks_off_is_an_error(api: Api, ns: str, end: str) -> None:
    await running_pod(api.client, ns, ns)
    async with agent_of(api, ns) as agent:
        await agent.begin()

        async def break_off() -> None:
            _, stream = await opened(agent)
            await stream.write(v1.AgentFrame(exec=v1.ExecOutput(stdout=b"one")))
            ended = getattr(stream, end)()
            if end == "done_writing":
                await ended

        breaking = asyncio.create_task(break_off())
        start = v1.ExecStart(namespace=ns, name="web", command=["cat"], stdin=True)
        with pytest.raises(errors.NodeUnreachable):
            async with api.client.pods.exec(start) as session:
                async for _ in session:
                    pass
        await breaking


async def test_a_client_that_leaves_ends_the_agents_stream(api: Api, ns: str) -> None:
    await running_pod(api.client, ns, ns)
    async with agent_of(api, ns) as agent:
        await agent.begin()
        start = v1.ExecStart(namespace=ns, name="web", command=["sleep"], stdin=True)
        async with api.client.pods.exec(start) as session:
            request, stream = await opened(agent)
            await stream.write(v1.AgentFrame(exec=v1.ExecOutput(stdout=b"x")))
            async with aclosing(aiter(session)) as output:
                assert await anext(output) == ("stdout", b"x")
        assert (await agent.read("close_stream")).close_stream == request.stream_id
        async with asyncio.timeout(10):
            assert await stream.read() is grpc.aio.EOF


async def test_an_agent_that_leaves_ends_the_clients_stream(api: Api, ns: str) -> None:
    await running_pod(api.client, ns, ns)
    async with agent_of(api, ns) as agent:
        await agent.begin()
        start = v1.ExecStart(namespace=ns, name="web", command=["sleep"])
        async with api.client.pods.exec(start) as session:
            _, stream = await opened(agent)
            await stream.write(v1.AgentFrame(exec=v1.ExecOutput(stdout=b"x")))
            with pytest.raises(errors.NodeUnreachable, match="without an exit code"):
                async for _ in session:
                    stream.cancel()


async def test_a_session_that_ends_ends_what_its_agent_has_not_opened(api: Api, ns: str) -> None:
    await running_pod(api.client, ns, ns)
    async with agent_of(api, ns) as agent:
        await agent.begin()
        start = v1.ExecStart(namespace=ns, name="web", command=["sleep"])
        async with api.client.pods.exec(start) as session:
            await agent.read("open_stream")
            agent.call.cancel()
            with pytest.raises(errors.NodeUnreachable, match="session"):
                async for _ in session:
                    pass


async def test_what_the_agent_cannot_open_is_said_to_the_client(api: Api, ns: str) -> None:
    await running_pod(api.client, ns, ns)
    async with agent_of(api, ns) as agent:
        await agent.begin()

        async def refuse() -> None:
            request = (await agent.read("open_stream")).open_stream
            failed = v1.StreamFailed(stream_id=request.stream_id, reason="NOT_FOUND", message="no such container")
            await agent.call.write(v1.AgentMessage(stream_failed=failed))

        refusing = asyncio.create_task(refuse())
        with pytest.raises(errors.NotFound, match="no such container"):
            async for _ in api.client.pods.logs(v1.LogsRequest(namespace=ns, name="web")):
                pass
        await refusing


async def test_what_fails_after_the_agent_has_opened_it_is_said_too_and_the_stream_just_ends(api: Api, ns: str) -> None:
    await running_pod(api.client, ns, ns)
    async with agent_of(api, ns) as agent:
        await agent.begin()

        async def fail() -> Any:
            request, stream = await opened(agent)
            failed = v1.StreamFailed(stream_id=request.stream_id, reason="NOT_FOUND", message="no log any more")
            await agent.call.write(v1.AgentMessage(stream_failed=failed))
            return stream

        failing = asyncio.create_task(fail())
        with pytest.raises(errors.NotFound, match="no log any more"):
            async for _ in api.client.pods.logs(v1.LogsRequest(namespace=ns, name="web")):
                pass
        async with asyncio.timeout(10):
            assert await (await failing).read() is grpc.aio.EOF


async def test_a_frame_that_is_no_message_is_refused(api: Api, ns: str) -> None:
    await running_pod(api.client, ns, ns)
    async with agent_of(api, ns) as agent:
        await agent.begin()
        start = v1.ExecStart(namespace=ns, name="web", command=["sleep"])
        async with api.client.pods.exec(start) as session, grpc.aio.insecure_channel(api.endpoint) as channel:
            request = (await agent.read("open_stream")).open_stream
            stream: Any = channel.stream_stream("/podwire.v1.Agents/Stream")()
            await stream.write(v1.AgentFrame(stream_id=request.stream_id).SerializeToString())
            await stream.write(b"\xff")
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                async with asyncio.timeout(10):
                    await stream.read()
            assert isinstance(from_rpc_error(refused.value), errors.Invalid)
            with pytest.raises(errors.NodeUnreachable, match="without an exit code"):
                async for _ in session:
                    pass


async def test_a_slow_client_holds_the_agent_up_and_not_the_server(api: Api, ns: str) -> None:
    await running_pod(api.client, ns, ns)
    written = 0
    async with agent_of(api, ns) as agent:
        await agent.begin()

        async def flood() -> None:
            nonlocal written
            _, stream = await opened(agent)
            while True:
                await stream.write(v1.AgentFrame(logs=v1.LogsChunk(data=b"x" * 100_000)))
                written += 100_000

        flooding = asyncio.create_task(flood())
        async with grpc.aio.insecure_channel(api.endpoint) as channel:
            method: Any = channel.unary_stream(
                "/podwire.v1.Pods/Logs", v1.LogsRequest.SerializeToString, v1.LogsChunk.FromString
            )
            call = method(v1.LogsRequest(namespace=ns, name="web", follow=True))
            await call.read()
            last = -1

            async def stands_still() -> bool:
                nonlocal last
                before, last = last, written
                await asyncio.sleep(0.3)
                return before == last

            await eventually(stands_still)
            assert written < 40_000_000
        flooding.cancel()
        await asyncio.wait([flooding])


@pytest.mark.parametrize(
    ("made", "container", "error"),
    [
        (lambda client, ns: running_pod(client, ns, ns), "", errors.NodeUnreachable),
        (lambda client, ns: client.pods.create(pod("web", ns)), "", errors.NodeUnreachable),
        (lambda client, ns: running_pod(client, ns, ns), "nobody", errors.Invalid),
        (lambda client, ns: asyncio.sleep(0), "", errors.NotFound),
    ],
    ids=["no session", "not bound", "no such container", "no such pod"],
)
async def test_logs_that_cannot_be_had(
    client: Client, ns: str, made: Callable[..., Any], container: str, error: type[errors.PodwireError]
) -> None:
    await made(client, ns)
    with pytest.raises(error):
        async for _ in client.pods.logs(v1.LogsRequest(namespace=ns, name="web", container=container)):
            pass


async def test_a_replica_that_stops_lets_its_agents_go_on_elsewhere(own_etcd_server: Any, ns: str) -> None:
    async with running_api(own_etcd_server.url) as first, running_api(own_etcd_server.url) as second:
        async with agent_of(first, "n1") as agent:
            welcome = await agent.begin()
            await first.stop()
            with pytest.raises(errors.Unavailable):
                await agent.read()
        async with agent_of(second, "n1", lease_id=welcome.lease_id) as agent:
            assert (await agent.begin()).lease_id == welcome.lease_id


async def test_sessions_that_stand_leave_room_for_requests(etcd_server: EtcdServer) -> None:
    limits = LoadLimits(requests=Room(6, 2, 3, queue=1, wait=1.0))
    async with running_api(etcd_server.url, limits=limits) as api, AsyncExitStack() as agents:
        for number in range(10):
            agent = await agents.enter_async_context(agent_of(api, f"one-of-many-{number}"))
            await agent.begin()
        await api.client.nodes.list()
