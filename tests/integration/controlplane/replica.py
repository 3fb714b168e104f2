"""Replicas of the API in this process, on sockets of their own, and objects to give them."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controlplane.server import Replica
from controlplane.settings import ApiSettings, EtcdSettings
from controlplane.store.etcd import Etcd
from podwire import errors, v1
from podwire.client import Client


@dataclass
class Api:
    """A replica that serves, and a client of it."""

    client: Client
    socket: Path
    replica: Replica
    serving: asyncio.Task[None]

    @property
    def endpoint(self) -> str:
        return f"unix:{self.socket}"

    async def stop(self) -> None:
        """As SIGTERM does."""
        self.serving.cancel()
        await asyncio.wait([self.serving])


@asynccontextmanager
async def running_api(etcd_url: str, socket: Path | None = None, **settings: Any) -> AsyncIterator[Api]:
    # A path of a socket has at most 107 characters; pytest's folders can be longer.
    with tempfile.TemporaryDirectory(prefix="podwire-") as folder:
        path = socket or Path(folder) / "api.sock"
        chosen = ApiSettings(EtcdSettings((etcd_url,)), path, **settings)
        async with Etcd.connect([etcd_url]) as etcd:
            replica = Replica(chosen, etcd)
            serving = asyncio.create_task(replica.run())
            try:
                async with Client.connect(f"unix:{path}") as client:
                    await _answers(client, serving)
                    yield Api(client, path, replica, serving)
            finally:
                serving.cancel()
                await asyncio.wait([serving])
        if not serving.cancelled():
            serving.result()


async def _answers(client: Client, serving: asyncio.Task[None]) -> None:
    """Until the replica serves; raises what has ended it before."""

    async def ask() -> None:
        while True:
            try:
                await client.namespaces.get("default")
                return
            except errors.Unavailable:
                continue

    asking = asyncio.create_task(ask())
    async with asyncio.timeout(30):
        await asyncio.wait([asking, serving], return_when=asyncio.FIRST_COMPLETED)
    asking.cancel()
    if serving.done():
        serving.result()


def pod(name: str = "", namespace: str = "default", *, labels: dict[str, str] | None = None, node: str = "") -> v1.Pod:
    made = v1.Pod(metadata=v1.ObjectMeta(name=name, namespace=namespace))
    made.metadata.labels.update(labels or {})
    made.spec.containers.add(name="main", image="docker.io/library/busybox:1")
    made.spec.node_name = node
    return made


def config_map(name: str, namespace: str = "default", **data: str) -> v1.ConfigMap:
    made = v1.ConfigMap(metadata=v1.ObjectMeta(name=name, namespace=namespace))
    made.data.update(data)
    return made


def service(name: str, namespace: str = "default", *, type_: str = "ClusterIP", address: str = "") -> v1.Service:
    made = v1.Service(metadata=v1.ObjectMeta(name=name, namespace=namespace))
    made.spec.type = type_
    made.spec.cluster_ip = address
    made.spec.selector["app"] = name
    made.spec.ports.add(port=80, protocol="TCP")
    return made


def namespace(name: str) -> v1.Namespace:
    return v1.Namespace(metadata=v1.ObjectMeta(name=name))
