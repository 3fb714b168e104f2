"""The client of the API: one connection, and a typed client for every kind."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import grpc.aio

from podwire import kinds, v1
from podwire.client.connection import Connection, Fence, Settings, Tls
from podwire.client.kind_client import KindClient
from podwire.client.pods import PodClient
from podwire.client.retrying import RetryPolicy
from podwire.kinds import Kind


class Client:
    """`async with Client.connect("unix:/run/podwire/api.sock") as client: await client.pods.list()`.

    One client is enough for a process, and safe for any number of tasks of one event loop.
    """

    def __init__(self, connection: Connection, retry: RetryPolicy | None = None) -> None:
        self._connection = connection
        self._retry = retry
        self.namespaces: KindClient[v1.Namespace] = KindClient(connection, kinds.NAMESPACE, retry)
        self.nodes: KindClient[v1.Node] = KindClient(connection, kinds.NODE, retry)
        self.node_sessions: KindClient[v1.NodeSession] = KindClient(connection, kinds.NODE_SESSION, retry)
        self.pods = PodClient(connection, retry)
        self.services: KindClient[v1.Service] = KindClient(connection, kinds.SERVICE, retry)
        self.endpoint_slices: KindClient[v1.EndpointSlice] = KindClient(connection, kinds.ENDPOINT_SLICE, retry)
        self.deployments: KindClient[v1.Deployment] = KindClient(connection, kinds.DEPLOYMENT, retry)
        self.replica_sets: KindClient[v1.ReplicaSet] = KindClient(connection, kinds.REPLICA_SET, retry)
        self.config_maps: KindClient[v1.ConfigMap] = KindClient(connection, kinds.CONFIG_MAP, retry)
        self.secrets: KindClient[v1.Secret] = KindClient(connection, kinds.SECRET, retry)
        self.events: KindClient[v1.Event] = KindClient(connection, kinds.EVENT, retry)
        self._kinds: dict[str, KindClient[Any]] = {
            client.kind.name: client for client in vars(self).values() if isinstance(client, KindClient)
        }

    @classmethod
    def connect(
        cls,
        endpoints: str | Sequence[str],
        *,
        tls: Tls | None = None,
        fence: Fence | None = None,
        settings: Settings | None = None,
    ) -> Self:
        """A client of the servers at `endpoints` ("host:port" or "unix:/path"), tried in this order.

        It returns at once and connects with the first call. `tls` is for addresses; a unix socket needs none.
        """
        addresses = [endpoints] if isinstance(endpoints, str) else list(endpoints)
        return cls(Connection(addresses, tls=tls, fence=fence, settings=settings))

    def with_retry(self, retry: RetryPolicy) -> Self:
        """A client on the same connection with another policy: closing either closes both."""
        return type(self)(self._connection, retry)

    def kind(self, kind: Kind) -> KindClient[Any]:
        return self._kinds[kind.name]

    async def cluster_status(self) -> v1.ClusterStatus:
        """How the control plane's store is: etcd's members, alarms, leaders. Answered where etcd is in trouble, too."""
        status: v1.ClusterStatus = await self._connection.read(
            "/podwire.v1.Cluster/Status", v1.ClusterStatusRequest(), v1.ClusterStatus, self._retry
        )
        return status

    @property
    def channel(self) -> grpc.aio.Channel:
        """The channel in use, for streams that this library has no method for. Ask again before every stream."""
        return self._connection.channel

    async def close(self) -> None:
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
