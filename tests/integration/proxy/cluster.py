"""Hosts, wires, pods and proxies for the tests of service traffic."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import uvloop

from cni.conflist import default_conflist
from cni.iptables import Iptables, Kind
from cni.plugin import Attachment, Plugin
from nodeagent.proxy.proxy import Proxy, ProxySettings
from podwire import v1
from tests.integration.cni.hosts import Host, NameServer, host
from tests.integration.proxy.pictures import Picture, Revision

POD_NETWORK = "10.244.0.0/16"
SERVICE_NETWORK = "10.96.0.0/12"


@dataclass(frozen=True)
class Pod:
    """A namespace with an address on a node, and a server in it on port 8080 that answers with the pod's name."""

    host: Host
    address: str
    node: str

    @property
    def endpoint(self) -> tuple[str, str]:
        return self.address, self.node


class Node:
    """A node: its address on the network of the nodes, its pods, its iptables."""

    def __init__(self, name: str, number: int, made: Host, kind: Kind, folder: Path) -> None:
        self.name = name
        self.host = made
        self.address = f"10.77.0.{number + 10}"
        self.pod_cidr = f"10.244.{number}.0/24"
        self.iptables = Iptables(kind, folder / f"{name}.lock")
        self._kind = kind
        self._state_dir = folder / name
        self._plugin = Plugin()

    def add_pod(self, name: str, made: Host) -> str:
        """Connects a pod; its address."""
        conflist = default_conflist(self.pod_cidr, pod_network=POD_NETWORK, xtables_lock=self.iptables.lock_file)
        raw = {
            **conflist.plugins[0],
            "name": conflist.name,
            "cniVersion": conflist.version,
            "dataDir": str(self._state_dir),
            "iptables": self._kind,
        }
        result = self.host.run(lambda: self._plugin.add(raw, Attachment(name, "eth0", made.path)))
        return str(result["ips"][0]["address"]).split("/")[0]

    def settings(self, check_seconds: float = 30.0) -> ProxySettings:
        return ProxySettings(self.name, POD_NETWORK, self.iptables.lock_file, self._kind, check_seconds)

    def saved(self) -> str:
        """All rules, without counters and comments of the program."""
        text = self.host.run(lambda: self.iptables.save("filter") + self.iptables.save("nat"))
        return "\n".join(line.split(" [")[0] for line in text.splitlines() if not line.startswith("#"))


class Cluster:
    """Two nodes and a client on a network of their own; the client reaches services through node1."""

    def __init__(self, kind: Kind, folder: Path, undo: ExitStack) -> None:
        self._undo = undo
        self.objects: dict[str, v1.Service | v1.EndpointSlice] = {}
        switch = self.new_host()
        switch.command("ip", "link", "add", "switch", "type", "bridge")
        switch.command("ip", "link", "set", "switch", "up")
        # The switch's packets are none of its iptables' business.
        switch.command("sysctl", "-q", "-w", "net.bridge.bridge-nf-call-iptables=0")
        self.client = self.new_host()
        self.node1, self.node2 = (Node(f"node{number}", number, self.new_host(), kind, folder) for number in (1, 2))
        for place, (connected, address) in enumerate(
            (
                (self.client, "10.77.0.100"),
                (self.node1.host, self.node1.address),
                (self.node2.host, self.node2.address),
            )
        ):
            switch.command(
                "ip", "link", "add", f"port{place}", "type", "veth", "peer", "uplink", "netns", connected.name
            )
            switch.command("ip", "link", "set", f"port{place}", "up", "master", "switch")
            connected.command("ip", "link", "set", "uplink", "up")
            connected.command("ip", "addr", "add", f"{address}/24", "dev", "uplink")
            connected.command("ip", "route", "add", "default", "via", "10.77.0.254")
        self.client.command("ip", "route", "add", SERVICE_NETWORK, "via", self.node1.address)
        for node, other in ((self.node1, self.node2), (self.node2, self.node1)):
            node.host.command("ip", "route", "add", other.pod_cidr, "via", other.address)

    def new_host(self) -> Host:
        return self._undo.enter_context(host())

    def pod(self, node: Node, name: str, port: int = 8080) -> Pod:
        made = self.new_host()
        address = node.add_pod(name, made)
        server = NameServer(made, name, port)
        self._undo.callback(server.close)
        return Pod(made, address, node.name)

    @contextmanager
    def proxies(self, *nodes: Node, check_seconds: float = 30.0) -> Iterator[Proxies]:
        """Proxies on these nodes (by default all), stopped at the end; their rules stay."""
        with ExitStack() as stop:
            running = [
                stop.enter_context(RunningProxy(node, list(self.objects.values()), check_seconds))
                for node in nodes or (self.node1, self.node2)
            ]
            yield Proxies(self, running)


class RunningProxy:
    """A proxy in a thread with a loop of its own, which lives in the node's network namespace."""

    def __init__(self, node: Node, objects: list[v1.Service | v1.EndpointSlice], check_seconds: float) -> None:
        self.flushes = 0
        revision = Revision()
        self._services: Picture[v1.Service] = Picture(revision)
        self._slices: Picture[v1.EndpointSlice] = Picture(revision)
        for obj in objects:
            self._put(obj)
        self.proxy = Proxy(node.settings(check_seconds), on_flush=self._flushed)
        self._node = node
        self._loop = uvloop.new_event_loop()  # as the agent's
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: node.host.run(self._main))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(20)
        self.do(lambda: None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(20)
        assert not self._thread.is_alive()

    def put(self, obj: v1.Service | v1.EndpointSlice) -> None:
        self.do(lambda: self._put(obj))

    def remove(self, service: str) -> None:
        def change() -> None:
            self._slices.change(f"default/{service}-1", None)
            self._services.change(f"default/{service}", None)

        self.do(change)

    def do(self, change: Callable[[], None]) -> None:
        """Makes `change` in the proxy's loop, and waits until it is in the kernel."""

        async def applied() -> None:
            change()
            async with asyncio.timeout(20):
                await self.proxy.wait_applied(int(self._slices.resource_version))

        asyncio.run_coroutine_threadsafe(applied(), self._loop).result()

    def _put(self, obj: v1.Service | v1.EndpointSlice) -> None:
        if isinstance(obj, v1.Service):
            self._services.put(obj)
        else:
            self._slices.put(obj)

    async def _flushed(self) -> None:
        self.flushes += 1

    def _main(self) -> None:
        self._loop.run_until_complete(self._run())
        self._loop.close()

    async def _run(self) -> None:
        self._task = asyncio.create_task(self.proxy.run(self._services, self._slices))
        self._started.set()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            await self._task


class Proxies:
    """Changes that all running proxies have applied when the call returns."""

    def __init__(self, cluster: Cluster, running: list[RunningProxy]) -> None:
        self._cluster = cluster
        self.running = running

    def put(self, *objects: v1.Service | v1.EndpointSlice) -> None:
        for obj in objects:
            self._cluster.objects[f"{type(obj).__name__} {obj.metadata.name}"] = obj
            for proxy in self.running:
                proxy.put(obj)

    def remove(self, service: str) -> None:
        self._cluster.objects.pop(f"Service {service}")
        self._cluster.objects.pop(f"EndpointSlice {service}-1", None)
        for proxy in self.running:
            proxy.remove(service)
