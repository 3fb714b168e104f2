"""The client of the API for callers without an event loop."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from podwire import client as asyncio_client
from podwire import v1
from podwire.client.blocking.kind_client import KindClient, PodClient
from podwire.client.blocking.loop import LoopThread
from podwire.client.connection import Fence, Settings, Tls
from podwire.client.retrying import RetryPolicy
from podwire.kinds import Kind


class Client:
    """`with Client.connect("unix:/run/podwire/api.sock") as client: client.pods.list()`.

    One client is enough for a process, and safe for any number of its threads. It does not survive a fork: the child
    makes its own.
    """

    def __init__(self, loop: LoopThread, client: asyncio_client.Client) -> None:
        self._loop = loop
        self._client = client
        self.namespaces: KindClient[v1.Namespace] = KindClient(loop, client.namespaces)
        self.nodes: KindClient[v1.Node] = KindClient(loop, client.nodes)
        self.node_sessions: KindClient[v1.NodeSession] = KindClient(loop, client.node_sessions)
        self.pods = PodClient(loop, client.pods)
        self.services: KindClient[v1.Service] = KindClient(loop, client.services)
        self.endpoint_slices: KindClient[v1.EndpointSlice] = KindClient(loop, client.endpoint_slices)
        self.deployments: KindClient[v1.Deployment] = KindClient(loop, client.deployments)
        self.replica_sets: KindClient[v1.ReplicaSet] = KindClient(loop, client.replica_sets)
        self.config_maps: KindClient[v1.ConfigMap] = KindClient(loop, client.config_maps)
        self.secrets: KindClient[v1.Secret] = KindClient(loop, client.secrets)
        self.events: KindClient[v1.Event] = KindClient(loop, client.events)

    @classmethod
    def connect(
        cls,
        endpoints: str | Sequence[str],
        *,
        tls: Tls | None = None,
        fence: Fence | None = None,
        settings: Settings | None = None,
    ) -> Self:
        """As the asyncio client's."""
        loop = LoopThread()

        async def connected() -> asyncio_client.Client:
            return asyncio_client.Client.connect(endpoints, tls=tls, fence=fence, settings=settings)

        try:
            client = loop.run(connected)
        except BaseException:
            loop.close()
            raise
        loop.at_end(client.close)
        return cls(loop, client)

    def with_retry(self, retry: RetryPolicy) -> Self:
        return type(self)(self._loop, self._client.with_retry(retry))

    def kind(self, kind: Kind) -> KindClient[Any]:
        return KindClient(self._loop, self._client.kind(kind))

    def cluster_status(self) -> v1.ClusterStatus:
        return self._loop.run(self._client.cluster_status)

    def close(self) -> None:
        """Ends calls and watches that are under way in other threads, with a RuntimeError there."""
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
