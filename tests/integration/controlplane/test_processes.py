"""Several processes of the API behind one address: all of them answer, and the loss of one is a new connection."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import grpc.aio
import pytest

from bench.backends import free_port_run
from podwire import errors, v1
from podwire.client import Client, Tls
from podwire.v1.agents_pb2_grpc import AgentsStub
from tests.integration.controlplane.api_process import ApiProcess
from tests.integration.controlplane.etcd_server import EtcdServer
from tests.integration.controlplane.network import eventually
from tests.integration.controlplane.replica import config_map, namespace
from tests.integration.controlplane.test_server import certificates
from tests.integration.controlplane.test_sessions import Agent, finish, opened, running_pod

# Enough for both of two processes to have some, with a chance of one in two thousand million to fail.
CONNECTIONS = 32


class Pair:
    """Two processes of the API at one address."""

    def __init__(self, process: ApiProcess, port: int, tls: Tls) -> None:
        self.process = process
        self.port = port
        self.tls = tls

    def client(self) -> Client:
        """At the address that they share."""
        return Client.connect(f"localhost:{self.port}", tls=self.tls)

    def client_of(self, number: int) -> Client:
        """At one's own address."""
        return Client.connect(f"localhost:{self.port + 1 + number}", tls=self.tls)

    def socket_of(self, number: int) -> str:
        return f"unix:{self.process.folder / ('api.sock', 'api-1.sock')[number]}"

    def pid_of(self, number: int) -> int:
        """0 where there is none at the moment."""
        for pid in children(self.process.pid):
            if f"--process-number={number}" in Path(f"/proc/{pid}/cmdline").read_text().split("\0"):
                return pid
        return 0


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def options(port: int, tls: Tls) -> list[str]:
    return [
        "--processes=2", f"--listen=127.0.0.1:{port}", f"--advertise=localhost:{port}",
        f"--tls-ca={tls.ca}", f"--tls-cert={tls.cert}", f"--tls-key={tls.key}",
    ]  # fmt: skip


@asynccontextmanager
async def running_pair(etcd_server: EtcdServer) -> AsyncIterator[Pair]:
    # A path of a socket has at most 107 characters; pytest's folders can be longer.
    with tempfile.TemporaryDirectory(prefix="podwire-") as folder:
        tls, port = certificates(Path(folder), "ours"), free_port_run(5)
        process = ApiProcess(etcd_server.url, Path(folder), *options(port, tls), metrics_port=port + 3)
        with few_descriptors():
            await process.start()
        pair = Pair(process, port, tls)
        try:
            for number in range(2):
                async with pair.client_of(number) as client:
                    await serves(client, process)
            yield pair
        finally:
            await process.kill(signal.SIGTERM)


@contextmanager
def few_descriptors() -> Iterator[None]:
    """What is started in here begins with the limit that processes usually have."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, most), most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (now, most))


async def serves(client: Client, process: ApiProcess) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                await client.namespaces.get("default")
                return
            except errors.Unavailable:
                assert process.running, process.log


@pytest.fixture(scope="module")
async def pair(etcd_server: EtcdServer) -> AsyncIterator[Pair]:
    async with running_pair(etcd_server) as running:
        yield running


async def test_both_processes_answer_at_one_address(pair: Pair) -> None:
    name = 'podwire_calls_total{method="podwire.v1.Namespaces/Get"}'
    before = [await pair.process.metric(name, number) for number in range(2)]
    async with AsyncExitStack() as undo:
        for _ in range(CONNECTIONS):
            client = await undo.enter_async_context(pair.client())
            await client.namespaces.get("default")
    calls = [await pair.process.metric(name, number) - before[number] for number in range(2)]
    assert min(calls) > 0
    assert sum(calls) == CONNECTIONS


async def test_what_one_process_has_written_the_other_has(pair: Pair) -> None:
    async with pair.client_of(0) as here, pair.client_of(1) as there:
        for number in range(20):
            await here.config_maps.create(config_map(f"processes-{number}"))
            assert (await there.config_maps.get(f"processes-{number}")).metadata.name


async def test_logs_come_from_an_agent_that_the_other_process_has(pair: Pair) -> None:
    async with (
        pair.client_of(1) as client,
        grpc.aio.insecure_channel(pair.socket_of(0)) as channel,
    ):
        await client.namespaces.create(namespace("processes"))
        await running_pod(client, "processes", "processes-node")
        agent = Agent(AgentsStub(channel), "processes-node")
        await agent.begin()
        session = await client.node_sessions.get("processes-node")
        assert session.spec.replica_address == f"localhost:{pair.port + 1}"

        async def serve() -> None:
            _, stream = await opened(agent)
            await stream.write(v1.AgentFrame(logs=v1.LogsChunk(data=b"hello\n")))
            await stream.write(v1.AgentFrame(logs_ended=True))
            await finish(stream)

        async with asyncio.TaskGroup() as owner:
            owner.create_task(serve())
            request = v1.LogsRequest(namespace="processes", name="web")
            assert [chunk async for chunk in client.pods.logs(request)] == [b"hello\n"]


async def test_connections_are_limited_by_what_the_system_allows_and_not_by_what_processes_begin_with(
    pair: Pair,
) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    for number in range(2):
        assert resource.prlimit(pair.pid_of(number), resource.RLIMIT_NOFILE) == (most, most)


async def test_a_killed_process_costs_its_clients_a_connection_and_the_others_nothing(pair: Pair) -> None:
    killed = pair.pid_of(1)
    async with AsyncExitStack() as undo:
        clients = [await undo.enter_async_context(pair.client()) for _ in range(CONNECTIONS)]
        for client in clients:
            await client.namespaces.get("default")
        undisturbed = await undo.enter_async_context(grpc.aio.insecure_channel(pair.socket_of(0)))
        await undisturbed.channel_ready()

        os.kill(killed, signal.SIGKILL)

        async with asyncio.timeout(30):
            await asyncio.gather(*(client.namespaces.get("default") for client in clients))
        assert undisturbed.get_state() is grpc.ChannelConnectivity.READY
        await eventually(lambda: pair.pid_of(1) not in (0, killed), within=30)
        await serves(await undo.enter_async_context(pair.client_of(1)), pair.process)
    assert "role died, starting it again" in pair.process.log


async def test_sigterm_ends_both_in_order(etcd_server: EtcdServer) -> None:
    async with running_pair(etcd_server) as pair:
        ended = [os.pidfd_open(pid) for pid in children(pair.process.pid)]
        assert len(ended) == 2
        assert await pair.process.kill(signal.SIGTERM) == 0
        for descriptor in ended:
            # Nothing to signal any more.
            with pytest.raises(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, 0)
            os.close(descriptor)
        assert "died" not in pair.process.log
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("127.0.0.1", pair.port))


@pytest.mark.parametrize("offset", [0, 2], ids=["the shared address", "the second's own"])
async def test_an_address_that_another_program_has_is_a_clear_error(tmp_path: Path, offset: int) -> None:
    port = free_port_run(3)
    with socket.socket() as other:
        # Also where the other would share it.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", port + offset))
        other.listen()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "controlplane",
            "api",
            "--etcd=http://127.0.0.1:1",
            f"--run-dir={tmp_path}",
            *options(port, Tls(tmp_path / "ca", tmp_path / "cert", tmp_path / "key")),
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            _, output = await process.communicate()
    assert process.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port + offset}: Address already in use" in output.decode()
