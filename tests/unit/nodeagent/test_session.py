"""The agent's session over a real connection, with a control plane that does as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from nodeagent.clock import SystemClock
from nodeagent.reporting import StatusReporter
from nodeagent.session import Identity, Session
from podwire import errors, v1
from podwire.client.connection import Connection, Stream
from podwire.v1 import agents_pb2_grpc

HEARTBEAT = 0.05
LENGTHY = "lengthy"


class ControlPlane(agents_pb2_grpc.AgentsServicer):
    """Answers Hello; hands what agents say to the test, and what the test says to the agent."""

    def __init__(self) -> None:
        self.hellos: list[v1.Hello] = []
        self.said: asyncio.Queue[v1.AgentMessage] = asyncio.Queue()
        self.to_say: asyncio.Queue[v1.ControlMessage | None] = asyncio.Queue()
        self.frames: asyncio.Queue[v1.AgentFrame] = asyncio.Queue()
        self.stream_ended = asyncio.Event()
        self.silent = False
        self.listening = asyncio.Event()
        self.listening.set()

    async def Session(self, requests: Any, context: Any) -> AsyncIterator[v1.ControlMessage]:
        first = await anext(aiter(requests))
        self.hellos.append(first.hello)
        welcome = v1.Welcome(lease_id=7)
        welcome.heartbeat_interval.FromMilliseconds(int(HEARTBEAT * 1000))
        yield v1.ControlMessage(welcome=welcome)
        listening = asyncio.create_task(self._listen(requests))
        try:
            while (message := await self.to_say.get()) is not None:
                yield message
        finally:
            listening.cancel()

    async def talk(self) -> None:
        """Heartbeats that nobody has asked for."""
        while True:
            self.to_say.put_nowait(v1.ControlMessage(heartbeat=v1.Heartbeat()))
            await asyncio.sleep(HEARTBEAT / 2)

    async def _listen(self, requests: Any) -> None:
        async for message in requests:
            await self.listening.wait()
            if message.HasField("heartbeat"):
                if not self.silent:
                    self.to_say.put_nowait(v1.ControlMessage(heartbeat=message.heartbeat))
            else:
                self.said.put_nowait(message)

    async def Stream(self, requests: Any, context: Any) -> AsyncIterator[v1.ExecInput]:
        try:
            async for frame in requests:
                self.frames.put_nowait(frame)
                yield v1.ExecInput(stdin=b"more")
        finally:
            self.stream_ended.set()


class Echo:
    """Serves one request for a log: two chunks; for an exec: a failure."""

    async def serve(self, request: v1.OpenStream, stream: Stream) -> None:
        if request.HasField("exec"):
            # More than fits between the agent and a control plane that does not listen.
            detail = "!" * 1_000_000 if request.exec.name == LENGTHY else ""
            raise errors.PreconditionFailed(f"the container is not running{detail}")
        await stream.write(v1.AgentFrame(logs=v1.LogsChunk(data=b"line\n")))
        await stream.done_writing()
        while await stream.read() is not None:
            pass


class Scene:
    def __init__(self, folder: Path) -> None:
        self.address = f"unix:{folder / 'api.sock'}"
        self.plane = ControlPlane()
        self.reporter = StatusReporter(SystemClock(), lambda key: None)
        self.connection = Connection([self.address])
        identity = Identity("node1", "instance", "0.1")
        self.session = Session(self.connection, identity, self.reporter, Echo(), SystemClock())
        self.server: grpc.aio.Server | None = None

    async def serve(self) -> None:
        # Without a probe windows stay as they begin, at 64 KiB: who does not read holds up who writes.
        self.server = grpc.aio.server(options=[("grpc.http2.bdp_probe", 0)])
        agents_pb2_grpc.add_AgentsServicer_to_server(self.plane, self.server)
        self.server.add_insecure_port(self.address)
        await self.server.start()

    async def die(self) -> None:
        assert self.server is not None
        await self.server.stop(grace=None)

    async def said(self) -> v1.AgentMessage:
        async with asyncio.timeout(5):
            return await self.plane.said.get()


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    made = Scene(tmp_path)
    await made.serve()
    running = asyncio.create_task(made.session.run())
    yield made
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    await made.connection.close()
    await made.die()


def report(scene: Scene, phase: str) -> None:
    pod = v1.Pod(metadata=v1.ObjectMeta(namespace="default", name="web", uid="u"))
    scene.reporter.report(pod, v1.PodStatus(phase=phase))


async def test_a_status_goes_out_at_once(scene: Scene) -> None:
    report(scene, "Running")
    message = await scene.said()
    assert message.statuses.updates[0].status.phase == "Running"
    assert scene.plane.hellos[0].node_name == "node1"


async def test_after_a_restart_of_the_server_the_lease_is_named_and_the_rest_sent_again(scene: Scene) -> None:
    report(scene, "Running")
    await scene.said()
    await scene.die()
    await scene.serve()
    again = await scene.said()
    assert again.statuses.updates[0].status.phase == "Running"
    assert [hello.lease_id for hello in scene.plane.hellos] == [0, 7]


async def test_an_acknowledged_status_is_not_sent_again(scene: Scene) -> None:
    report(scene, "Running")
    first = await scene.said()
    scene.plane.to_say.put_nowait(v1.ControlMessage(statuses=v1.StatusAck(sequence=first.statuses.sequence)))
    report(scene, "Failed")
    await scene.said()
    await scene.die()
    await scene.serve()
    again = await scene.said()
    assert [update.status.phase for update in again.statuses.updates] == ["Failed"]


async def test_a_silent_control_plane_is_left(scene: Scene) -> None:
    await asyncio.wait_for(scene.session.established.wait(), 5)
    scene.plane.silent = True
    async with asyncio.timeout(5):
        while len(scene.plane.hellos) < 2:  # noqa: ASYNC110
            await asyncio.sleep(HEARTBEAT)


async def test_a_stream_is_opened_when_the_control_plane_asks(scene: Scene) -> None:
    request = v1.OpenStream(stream_id="s1", logs=v1.LogsRequest(name="web"))
    scene.plane.to_say.put_nowait(v1.ControlMessage(open_stream=request))
    async with asyncio.timeout(5):
        first = await scene.plane.frames.get()
        second = await scene.plane.frames.get()
    assert first.stream_id == "s1"
    assert second.logs.data == b"line\n"


async def test_a_stream_that_cannot_be_served_says_why(scene: Scene) -> None:
    request = v1.OpenStream(stream_id="s2", exec=v1.ExecStart(name="web"))
    scene.plane.to_say.put_nowait(v1.ControlMessage(open_stream=request))
    failure = (await scene.said()).stream_failed
    assert (failure.stream_id, failure.reason) == ("s2", "PRECONDITION_FAILED")
    assert failure.message == "the container is not running"
    # Not before the control plane has heard.
    await asyncio.sleep(HEARTBEAT)
    assert not scene.plane.stream_ended.is_set()
    scene.plane.to_say.put_nowait(v1.ControlMessage(close_stream="s2"))
    await asyncio.wait_for(scene.plane.stream_ended.wait(), 5)


async def test_a_stream_that_is_closed_while_it_says_why_it_failed_leaves_the_session_alone(scene: Scene) -> None:
    await asyncio.wait_for(scene.session.established.wait(), 5)
    # Nobody takes what the agent says, so that it cannot end saying it; what it hears keeps the session alive.
    scene.plane.listening.clear()
    talking = asyncio.create_task(scene.plane.talk())
    request = v1.OpenStream(stream_id="s3", exec=v1.ExecStart(name=LENGTHY))
    scene.plane.to_say.put_nowait(v1.ControlMessage(open_stream=request))
    async with asyncio.timeout(5):
        assert (await scene.plane.frames.get()).stream_id == "s3"
    # It is at its word.
    await asyncio.sleep(HEARTBEAT)
    scene.plane.to_say.put_nowait(v1.ControlMessage(close_stream="s3"))
    await asyncio.sleep(HEARTBEAT)
    scene.plane.listening.set()
    assert (await scene.said()).stream_failed.stream_id == "s3"
    report(scene, "Running")
    assert (await scene.said()).statuses.updates[0].status.phase == "Running"
    talking.cancel()
    assert len(scene.plane.hellos) == 1
