"""The node's pod network: known as soon as the node has a range of addresses, and remembered for the next start.

The range is kept in `<state-dir>/network.json`, so that an agent that starts with no control plane in reach can still
restart a pod whose sandbox is lost.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Final, NoReturn

import structlog

from cni.conflist import ConfList, default_conflist, load
from cni.routes import Routes, RoutesError
from cni.runner import Network
from nodeagent.settings import AgentSettings
from podwire import v1
from podwire.client import Informer

log = structlog.get_logger(__name__)

_FILE: Final = "network.json"


class NodeNetwork:
    def __init__(self, settings: AgentSettings) -> None:
        self._settings = settings
        self._file = settings.state_dir / _FILE
        self._network: Network | None = None

    def remembered(self) -> str | None:
        """The range that the node had when an agent last ran here."""
        try:
            pod_cidr: str = json.loads(self._file.read_text())["podCIDR"]
        except FileNotFoundError:
            return None
        return pod_cidr

    async def set_up(self, pod_cidr: str) -> Network:
        """The network for that range; raises CniError where its configuration is wrong."""
        network = Network(
            self._conflist(pod_cidr),
            state_dir=self._settings.state_dir / "cni",
            bin_dirs=self._settings.cni_bin_dirs,
        )
        await network.repair()
        await asyncio.to_thread(self._remember, pod_cidr)
        self._network = network
        return network

    async def repair(self) -> None:
        """Puts back what somebody deleted of the network's rules on this node."""
        if self._network is not None:
            await self._network.repair()

    def _conflist(self, pod_cidr: str) -> ConfList:
        if self._settings.cni_conf_dir is not None:
            return load(self._settings.cni_conf_dir)
        return default_conflist(
            pod_cidr,
            pod_network=self._settings.cluster_cidr,
            xtables_lock=self._settings.xtables_lock,
        )

    def _remember(self, pod_cidr: str) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps({"podCIDR": pod_cidr}))
        new.rename(self._file)


class NodeRoutes:
    """Keeps routes to the other nodes' pods, as the Node objects say."""

    def __init__(self, own_name: str, nodes: Informer[v1.Node]) -> None:
        self._own_name = own_name
        self._nodes = nodes
        self._routes = Routes()
        self._wake = asyncio.Event()
        nodes.add_handler(lambda _key, _old, _new: self._wake.set())

    async def run(self) -> NoReturn:
        await self._nodes.wait_synced()
        async with asyncio.TaskGroup() as owner:
            owner.create_task(self._routes.run(), name="routes that the kernel drops")
            before: dict[str, str] | None = None
            while True:
                self._wake.clear()
                wanted = wanted_routes(self._nodes.values(), self._own_name)
                if wanted != before:
                    before = wanted
                    await self._sync(wanted)
                await self._wake.wait()

    async def _sync(self, wanted: dict[str, str]) -> None:
        try:
            await self._routes.sync(wanted)
        except RoutesError as error:
            # The routes that work are set; the kernel's next word about its routes brings another attempt.
            log.warning("some routes to other nodes are not set", error=str(error))


def wanted_routes(nodes: Iterable[v1.Node], own_name: str) -> dict[str, str]:
    """Range of pods -> address of their node, for every other node that has both."""
    routes = {}
    for node in nodes:
        address = next((a.address for a in node.status.addresses if a.type == "InternalIP"), "")
        if node.metadata.name != own_name and node.spec.pod_cidr and address:
            routes[node.spec.pod_cidr] = address
    return routes
