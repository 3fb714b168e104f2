"""An etcd cluster of three real members, on loopback or one in each of three hosts; any of them killed, frozen or
started again at will.

Each member also listens on a unix socket, which no fault of a network reaches: over it a test asks who leads.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from controlplane.store.api import etcd_pb2 as pb
from controlplane.store.api.etcd_pb2_grpc import MaintenanceStub
from tests import freezing
from tests.integration.controlplane.etcd_server import free_ports

# The name of the file is what etcd makes of a unix URL, which must look like a host and a port.
_SOCKET = "status:1"


@dataclass(frozen=True)
class Place:
    """Where a member runs: its address and ports, and the words before its command that bring it there."""

    address: str
    client_port: int
    peer_port: int
    enter: tuple[str, ...] = ()

    @property
    def client_url(self) -> str:
        return f"http://{self.address}:{self.client_port}"

    @property
    def peer_url(self) -> str:
        return f"http://{self.address}:{self.peer_port}"


def loopback_places(count: int = 3) -> list[Place]:
    ports = free_ports(2 * count)
    return [Place("127.0.0.1", *pair) for pair in zip(ports[:count], ports[count:], strict=True)]


class EtcdMember:
    def __init__(self, name: str, place: Place, folder: Path) -> None:
        self.name = name
        self.place = place
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return self.place.client_url

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self, cluster: str) -> None:
        """Starts it, also after `kill`, with the data it had; `cluster` is etcd's list of all members."""
        program = shutil.which("etcd")
        assert program, "these tests need etcd: scripts/setup unpacks it"
        # What a killed one left: etcd would not listen on it again.
        (self._folder / _SOCKET).unlink(missing_ok=True)
        with (self._folder / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.place.enter,
                program,
                "--data-dir=data",
                f"--name={self.name}",
                f"--listen-client-urls={self.place.client_url},unix://{_SOCKET}",
                f"--advertise-client-urls={self.place.client_url}",
                f"--listen-peer-urls={self.place.peer_url}",
                f"--initial-advertise-peer-urls={self.place.peer_url}",
                f"--initial-cluster={cluster}",
                "--log-outputs=stderr",
                "--logger=zap",
                cwd=self._folder,
                stdout=log,
                stderr=log,
                env={**os.environ, "GOMAXPROCS": "1"},
            )

    async def kill(self) -> None:
        """SIGKILL, and waits for its end; of a frozen one too."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()

    def freeze(self) -> None:
        """It answers nobody, neither clients nor the others, and closes no connection, until `thaw`."""
        assert self._process is not None
        freezing.freeze(self._process.pid)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def status(self) -> pb.StatusResponse | None:
        """What it says of itself, or None where it does not answer."""
        if not self.alive:
            return None
        async with grpc.aio.insecure_channel(f"unix:{self._folder / _SOCKET}") as channel:
            try:
                answer: pb.StatusResponse = await MaintenanceStub(channel).Status(pb.StatusRequest(), timeout=1.0)
            except grpc.aio.AioRpcError:
                return None
            return answer


class EtcdCluster:
    def __init__(self, members: Sequence[EtcdMember]) -> None:
        self.members = members
        self._list = ",".join(f"{member.name}={member.place.peer_url}" for member in members)

    @property
    def urls(self) -> list[str]:
        return [member.url for member in self.members]

    async def start(self) -> None:
        """Starts all, and returns once they have a leader."""
        for member in self.members:
            await member.start(self._list)
        await self.leader()

    async def restart(self, member: EtcdMember) -> None:
        """Starts one that was killed; returns once it follows the leader."""
        await member.start(self._list)
        async with asyncio.timeout(60):
            while (status := await member.status()) is None or not status.leader:
                assert member.alive, f"{member.name} ended: see its log"
                await asyncio.sleep(0.05)

    async def leader(self) -> EtcdMember:
        """The member that leads by its own account, in the latest term that any has heard of."""
        async with asyncio.timeout(60):
            while True:
                answers = [(await member.status(), member) for member in self.members]
                known = [(status, member) for status, member in answers if status is not None]
                term = max((status.raftTerm for status, _ in known), default=0)
                for status, member in known:
                    if status.leader == status.header.member_id and status.raftTerm == term:
                        return member
                await asyncio.sleep(0.05)

    async def follower(self) -> EtcdMember:
        leader = await self.leader()
        return next(member for member in self.members if member is not leader and member.alive)

    async def stop(self) -> None:
        for member in self.members:
            await member.kill()


@asynccontextmanager
async def etcd_cluster(places: Sequence[Place] | None = None) -> AsyncIterator[EtcdCluster]:
    # Not pytest's folder: the path of a unix socket ends at 107 bytes.
    with tempfile.TemporaryDirectory(prefix="podwire-") as folder:
        members = []
        for number, place in enumerate(places or loopback_places()):
            data = Path(folder, f"etcd{number}")
            data.mkdir()
            members.append(EtcdMember(f"etcd{number}", place, data))
        cluster = EtcdCluster(members)
        try:
            await cluster.start()
            yield cluster
        finally:
            await cluster.stop()
