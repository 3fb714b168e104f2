"""Exec and logs through a replica that has not the agent's session: the one that has it answers, and nobody notices."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import grpc.aio
import pytest

from controlplane.sessions.statuses import StatusWriter
from podwire import errors, v1
from podwire.client import Client
from tests.integration.controlplane.network import eventually
from tests.integration.controlplane.replica import Api, running_api
from tests.integration.controlplane.test_sessions import agent_of, finish, opened, running_pod, session_gone, update

CAT = ["cat"]


@pytest.fixture
def elsewhere(second_api: Api) -> Api:
    """The replica that has the agents' sessions; clients ask the other one."""
    return second_api


async def test_logs_come_from_an_agent_on_another_replica(client: Client, elsewhere: Api, ns: str) -> None:
    await running_pod(client, ns, ns)
    async with agent_of(elsewhere, ns) as agent:
        await agent.begin()

        async def serve() -> None:
            _, stream = await opened(agent)
            for line in (b"one\n", b"two\n"):
                await stream.write(v1.AgentFrame(logs=v1.LogsChunk(data=line)))
            await stream.write(v1.AgentFrame(logs_ended=True))
            await finish(stream)

        async with asyncio.TaskGroup() as owner:
            owner.create_task(serve())
            logs = [chunk async for chunk in client.pods.logs(v1.LogsRequest(namespace=ns, name="web"))]
    assert logs == [b"one\n", b"two\n"]


async def test_an_exec_goes_both_ways_through_another_replica(client: Client, elsewhere: Api, ns: str) -> None:
    await running_pod(client, ns, ns)
    async with agent_of(elsewhere, ns) as agent:
        await agent.begin()

        async def serve() -> None:
            _, stream = await opened(agent)
            while (message := await stream.read()).WhichOneof("input") != "stdin_closed":
                await stream.write(v1.AgentFrame(exec=v1.ExecOutput(stdout=message.stdin)))
            await stream.write(v1.AgentFrame(exec=v1.ExecOutput(exit_code=3)))
            await finish(stream)

        serving = asyncio.create_task(serve())
        start = v1.ExecStart(namespace=ns, name="web", command=CAT, stdin=True)
        async with client.pods.exec(start) as session:
            await session.write(b"hello ")
            await session.write(b"there")
            await session.close_stdin()
            output = b"".join([data async for _, data in session])
        assert (output, session.exit_code) == (b"hello there", 3)
        await serving


async def test_the_peers_error_comes_through_as_it_is(client: Client, elsewhere: Api, ns: str) -> None:
    await running_pod(client, ns, ns)
    async with agent_of(elsewhere, ns) as agent:
        await agent.begin()

        async def refuse() -> None:
            request = (await agent.read("open_stream")).open_stream
            failed = v1.StreamFailed(stream_id=request.stream_id, reason="PRECONDITION_FAILED", message="it has ended")
            await agent.call.write(v1.AgentMessage(stream_failed=failed))

        refusing = asyncio.create_task(refuse())
        with pytest.raises(errors.PreconditionFailed, match=r"^it has ended$"):
            async with client.pods.exec(v1.ExecStart(namespace=ns, name="web", command=CAT)) as session:
                async for _ in session:
                    pass
        await refusing


@pytest.mark.parametrize("leave", ["cancel", "deadline"])
async def test_a_client_that_leaves_ends_the_stream_of_an_agent_on_another_replica(
    api: Api, elsewhere: Api, ns: str, leave: str
) -> None:
    await running_pod(api.client, ns, ns)
    async with agent_of(elsewhere, ns) as agent, grpc.aio.insecure_channel(api.endpoint) as channel:
        await agent.begin()
        exec_method: Any = channel.stream_stream(
            "/podwire.v1.Pods/Exec", v1.ExecInput.SerializeToString, v1.ExecOutput.FromString
        )
        call = exec_method(timeout=2.0 if leave == "deadline" else None)
        await call.write(v1.ExecInput(start=v1.ExecStart(namespace=ns, name="web", command=CAT, stdin=True)))
        request, stream = await opened(agent)
        await stream.write(v1.AgentFrame(exec=v1.ExecOutput(stdout=b"x")))
        assert (await call.read()).stdout == b"x"
        if leave == "cancel":
            call.cancel()
        # The session lasts longer than the deadline.
        await agent.heartbeat()
        await agent.read("heartbeat")
        assert (await agent.read("close_stream")).close_stream == request.stream_id
        async with asyncio.timeout(10):
            assert await stream.read() is grpc.aio.EOF


async def test_a_slow_client_of_another_replica_holds_the_agent_up(api: Api, elsewhere: Api, ns: str) -> None:
    await running_pod(api.client, ns, ns)
    written = 0
    async with agent_of(elsewhere, ns) as agent, grpc.aio.insecure_channel(api.endpoint) as channel:
        await agent.begin()

        async def flood() -> None:
            nonlocal written
            _, stream = await opened(agent)
            while True:
                await stream.write(v1.AgentFrame(logs=v1.LogsChunk(data=b"x" * 100_000)))
                written += 100_000

        flooding = asyncio.create_task(flood())
        logs: Any = channel.unary_stream(
            "/podwire.v1.Pods/Logs", v1.LogsRequest.SerializeToString, v1.LogsChunk.FromString
        )
        call = logs(v1.LogsRequest(namespace=ns, name="web", follow=True))
        await call.read()
        last = -1

        async def stands_still() -> bool:
            nonlocal last
            before, last = last, written
            await asyncio.sleep(0.3)
            return before == last

        await eventually(stands_still)
        assert written < 60_000_000
        flooding.cancel()
        await asyncio.wait([flooding])


async def test_a_call_that_was_forwarded_goes_no_further(client: Client, elsewhere: Api, ns: str) -> None:
    await running_pod(client, ns, ns)
    async with agent_of(elsewhere, ns) as agent:
        await agent.begin()
        agent.call.cancel()
        # The object stands for as long as its lease: this replica asks the other, which has no session any more.
        await eventually(lambda: elsewhere.replica._agents.session_of(ns) is None)
        with pytest.raises(errors.NodeUnreachable, match="no session with the control plane"):
            async for _ in client.pods.logs(v1.LogsRequest(namespace=ns, name="web")):
                pass


async def test_a_replica_that_is_gone_makes_its_nodes_unreachable_at_once(
    client: Client, etcd_server: Any, ns: str
) -> None:
    await running_pod(client, ns, ns)
    async with running_api(etcd_server.url) as gone:
        async with agent_of(gone, ns) as agent:
            await agent.begin()
        await gone.stop()
        assert not await session_gone(client, ns)
        with pytest.raises(errors.NodeUnreachable, match="does not answer"):
            async with asyncio.timeout(4):  # The lease lives for 5.
                async for _ in client.pods.logs(v1.LogsRequest(namespace=ns, name="web")):
                    pass


@pytest.mark.parametrize("destination", ["the client's replica", "a third one"])
async def test_a_session_that_moves_before_its_agent_has_answered_is_followed(
    api: Api, elsewhere: Api, etcd_server: Any, ns: str, destination: str
) -> None:
    await running_pod(api.client, ns, ns)
    async with running_api(etcd_server.url) as third, agent_of(elsewhere, ns) as before:
        welcome = await before.begin()
        target = api if destination == "the client's replica" else third

        async def move_then_serve() -> None:
            await before.read("open_stream")
            async with agent_of(target, ns, lease_id=welcome.lease_id) as after:
                await after.begin()
                before.call.cancel()
                _, stream = await opened(after)
                assert (await stream.read()).stdin == b"hello"
                await stream.write(v1.AgentFrame(exec=v1.ExecOutput(exit_code=0)))
                await finish(stream)

        moving = asyncio.create_task(move_then_serve())
        start = v1.ExecStart(namespace=ns, name="web", command=CAT, stdin=True)
        async with api.client.pods.exec(start) as session, aclosing(aiter(session)) as output:
            await session.write(b"hello")
            assert [data async for data in output] == []
        assert session.exit_code == 0
        await moving


async def test_a_late_status_of_an_older_session_is_not_stored(api: Api, elsewhere: Api, ns: str) -> None:
    web = await running_pod(api.client, ns, ns)

    async def begun(replica: Api, lease_id: int = 0) -> tuple[int, int]:
        """The lease of a session that begins and ends, and the revision that it is known by."""
        async with agent_of(replica, ns, lease_id=lease_id) as agent:
            lease_id = (await agent.begin()).lease_id
        return lease_id, int((await api.client.node_sessions.get(ns)).metadata.resource_version)

    lease_id, older = await begun(elsewhere)
    _, newer = await begun(api, lease_id)
    assert await StatusWriter(api.replica._writer).write(ns, [update(web, "Running")], newer) == [
        v1.StatusResult(uid=web.metadata.uid)
    ]
    # What a replica does that was frozen, or cut off from etcd, with a status in its hands.
    with pytest.raises(errors.Fenced):
        await StatusWriter(elsewhere.replica._writer).write(ns, [update(web, "Pending")], older)
    assert (await api.client.pods.get("web", namespace=ns)).status.phase == "Running"


async def test_a_session_that_has_moved_ends_where_it_was(api: Api, elsewhere: Api, ns: str) -> None:
    async with agent_of(elsewhere, ns) as before, agent_of(api, ns) as after:
        welcome = await before.begin()
        after._hello.lease_id = welcome.lease_id
        await after.begin()
        with pytest.raises(errors.PreconditionFailed, match="newer session"):
            await before.read()
        await eventually(lambda: elsewhere.replica._agents.session_of(ns) is None)
