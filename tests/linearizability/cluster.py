"""A control plane with faults: etcd's three members and two replicas of the API, each on a host of its own.

A host is a network namespace; the bridge between them is in another, so that no packet comes near the machine's own
network. Clients reach the replicas over unix sockets, which no cut of the network touches: a replica that has lost
etcd still hears their questions, and must not answer them from memory.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from podwire.client import Client, RetryPolicy, Settings
from tests.integration.cni.hosts import Host, host, wire
from tests.integration.controllers.processes import Role
from tests.integration.controlplane.etcd_cluster import EtcdCluster, Place, etcd_cluster

REPLICAS: Final = 2
_MEMBERS: Final = 3
# Short, so that a cut costs the run seconds and not minutes; what they leave unknown is what the checker is for.
_SETTINGS: Final = Settings(RetryPolicy(patience=2.0), call_timeout=3.0)


@dataclass(frozen=True)
class Replica:
    """A process that serves the API, and the host it is on."""

    process: Role
    host: Host

    def connect(self) -> Client:
        return Client.connect(f"unix:{self.process.socket}", settings=_SETTINGS)

    async def cut(self, *chains: str) -> None:
        """Drops every packet that it sends (OUTPUT), that comes for it (INPUT), or both, and tells nobody."""
        for chain in chains:
            await self._iptables("-I", chain, "-i" if chain == "INPUT" else "-o", "uplink", "-j", "DROP")

    async def mend(self) -> None:
        await self._iptables("-F")

    async def _iptables(self, *arguments: str) -> None:
        await asyncio.to_thread(self.host.command, "iptables", "-w", *arguments)


@dataclass(frozen=True)
class Cluster:
    etcd: EtcdCluster
    replicas: list[Replica]


@asynccontextmanager
async def running_cluster(logs: Path) -> AsyncIterator[Cluster]:
    """Once everything answers. The replicas' logs are left in the folder `logs`."""
    with _network(_MEMBERS + REPLICAS) as hosts, tempfile.TemporaryDirectory(prefix="podwire-") as folder:
        places = [Place(_address(number), 2379, 2380, _enter(member)) for number, member in enumerate(hosts[:_MEMBERS])]
        async with etcd_cluster(places) as etcd:
            replicas = []
            for number, on in enumerate(hosts[_MEMBERS:]):
                own = Path(folder, f"replica{number}")
                own.mkdir()
                replicas.append(Replica(Role("api", ",".join(etcd.urls), own, enter=_enter(on)), on))
            try:
                for replica in replicas:
                    await replica.process.start()
                for replica in replicas:
                    await _answers(replica)
                yield Cluster(etcd, replicas)
            finally:
                for replica in replicas:
                    await replica.process.kill()
                    shutil.copy(replica.process.folder / "api.log", logs / f"{replica.process.folder.name}.log")


async def _answers(replica: Replica) -> None:
    async with Client.connect(
        f"unix:{replica.process.socket}", settings=Settings(RetryPolicy(patience=60.0))
    ) as client:
        await client.namespaces.get("default")


@contextmanager
def _network(count: int) -> Iterator[list[Host]]:
    """Hosts on one bridge."""
    with ExitStack() as undo:
        switch = undo.enter_context(host())
        switch.command("ip", "link", "add", "br0", "type", "bridge")
        switch.command("ip", "link", "set", "br0", "up")
        hosts = [undo.enter_context(host()) for _ in range(count)]
        for number, made in enumerate(hosts):
            wire(switch, made, one_address="", other_address=f"{_address(number)}/24")
            switch.command("ip", "link", "set", f"to{made.name.rpartition('-')[2]}", "master", "br0")
        yield hosts


def _address(number: int) -> str:
    return f"10.91.0.{number + 10}"


def _enter(on: Host) -> tuple[str, ...]:
    return ("nsenter", f"--net={on.path}", "--")
