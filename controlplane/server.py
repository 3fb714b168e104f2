"""One replica of the API: everything of the role `api` meets here."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import stat
import uuid
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Final

import structlog
from grpc_channelz.v1 import channelz_pb2_grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from controlplane.http2 import Server, server_tls
from controlplane.http2.channelz import Channelz
from controlplane.metrics import ReplicaMetrics, serve_metrics
from controlplane.services.admission import Admission
from controlplane.services.allocation import Allocator
from controlplane.services.binding import Binding
from controlplane.services.cluster import SERVICE as CLUSTER_SERVICE
from controlplane.services.cluster import ClusterService
from controlplane.services.event_leases import EventLeases
from controlplane.services.lifecycle import DEFAULT_NAMESPACE
from controlplane.services.reading import Reader
from controlplane.services.users import Users
from controlplane.services.verbs import Verbs
from controlplane.services.writing import Demands, Writer
from controlplane.sessions.agents import SERVICE as AGENTS_SERVICE
from controlplane.sessions.agents import Agents
from controlplane.sessions.forwarding import Peers
from controlplane.sessions.pod_streams import PodStreams
from controlplane.sessions.statuses import StatusWriter
from controlplane.settings import ApiSettings
from controlplane.store.cache import Cache
from controlplane.store.commits import Committer
from controlplane.store.etcd import Etcd
from podwire import errors, kinds, v1

log = structlog.get_logger(__name__)

# For requests under way when the server stops; watches and sessions are ended at once.
_STOP_SECONDS: Final = 2.0


class Replica:
    """The parts of one replica, put together. `run` serves until it is cancelled."""

    def __init__(self, settings: ApiSettings, etcd: Etcd) -> None:
        self._settings = settings
        self._etcd = etcd
        self.cache = Cache(etcd)
        self._committer = Committer(etcd)
        allocator = Allocator(
            service_cidr=settings.service_cidr,
            pod_cidr=settings.pod_cidr,
            node_ports=settings.node_ports,
            taken=lambda: self.cache.allocations,
        )
        event_leases = EventLeases(etcd)
        self._writer = Writer(self.cache, self._committer, allocator, event_leases, new_uid=_new_uid)
        self._agents = Agents(
            etcd,
            self.cache,
            self._committer,
            StatusWriter(self._writer),
            replica_address=settings.advertise or f"unix:{settings.socket}",
            new_uid=_new_uid,
        )
        self._users = Users(settings.limits, asyncio.get_running_loop().time)
        self._peers = Peers(settings.tls)
        self._health = health.aio.HealthServicer()

    async def run(self) -> None:
        # Bound at once, so that what is in the way shows at once; served once the cache can answer. Clients that
        # connect in between wait in the listeners' queues. Where others serve the same address, who cannot answer yet
        # stays away from it: they get all of its clients.
        shared = self._settings.own_listen is not None
        server = None if shared else self._server()
        async with AsyncExitStack() as undo, asyncio.TaskGroup() as owner:
            for name, work in {
                "cache": self.cache.run(),
                "committer": self._committer.run(),
                "lease renewals": self._agents.renewals.run(),
            }.items():
                owner.create_task(work, name=name)
            try:
                await self.cache.wait_synced()
                _look_for_garbage_less_often()
                await self._ensure_default_namespace()
                server = server or self._server()
                for service in ("", *_service_names()):
                    await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
                await server.start()
                if self._settings.metrics is not None:
                    undo.callback(serve_metrics(self._settings.metrics, self._metrics()))
                log.info(
                    "serving",
                    address=self._settings.listen,
                    socket=str(self._settings.socket),
                    revision=self.cache.revision,
                )
                await asyncio.Event().wait()
            finally:
                await self._stop(server)

    def _metrics(self) -> ReplicaMetrics:
        return ReplicaMetrics(self.cache, self._agents, self._users)

    def _server(self) -> Server:
        """Bound to its addresses, and not started."""
        settings = self._settings
        server = Server()
        reader = Reader(self.cache)
        handlers = [Verbs(kind, reader, self._writer).handler() for kind in kinds.KINDS]
        handlers += [
            Binding(self._writer).handler(),
            PodStreams(self.cache, self._agents, self._peers).handler(),
            self._agents.handler(),
            ClusterService(self._etcd, self.cache).handler(),
        ]
        server.add_generic_rpc_handlers((Admission(handlers, self._users, reading=settings.limits.reading),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        channelz_pb2_grpc.add_ChannelzServicer_to_server(Channelz(server), server)
        names = (*_service_names(), health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflection.aio.ReflectionServicer(names), server)
        settings.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _private_files():
            server.listen_unix(settings.socket)
        if settings.listen is not None:
            if settings.tls is None:
                raise errors.Invalid("an address is served with TLS only: certificates are missing")
            tls = server_tls(settings.tls.ca, settings.tls.cert, settings.tls.key)
            for address in filter(None, (settings.listen, settings.own_listen)):
                # A second server on the same port is an error, not a silent share of its connections; processes that
                # are meant to share one have a supervisor that keeps it for them.
                server.listen(address, tls, shared=settings.own_listen is not None)
        return server

    async def _ensure_default_namespace(self) -> None:
        namespace = v1.Namespace(metadata=v1.ObjectMeta(name=DEFAULT_NAMESPACE))
        try:
            await self._writer.create(kinds.NAMESPACE, namespace, Demands())
        except errors.AlreadyExists:
            pass

    async def _stop(self, server: Server | None) -> None:
        """Streams without an end are ended, so that their clients go elsewhere; other requests are finished."""
        log.info("stopping")
        await self._health.enter_graceful_shutdown()
        stopping = errors.Unavailable("this replica of the control plane stops: another one, or its successor, goes on")
        self.cache.end_watches(stopping)
        self._agents.end_sessions(stopping)
        if server is not None:
            await server.stop(_STOP_SECONDS)
        await self._peers.close()


async def serve(settings: ApiSettings) -> None:
    """Serves the API until it is cancelled."""
    # A descriptor a connection: the 1,024 that processes usually begin with end at a thousand agents.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    async with Etcd.connect(settings.etcd.endpoints, tls=settings.etcd.tls) as etcd:
        await Replica(settings, etcd).run()


def _service_names() -> list[str]:
    return [*(kind.service for kind in kinds.KINDS), AGENTS_SERVICE, CLUSTER_SERVICE]


def _look_for_garbage_less_often() -> None:
    """Not among what is there from the start, and not after every 700 objects.

    Requests leave no cycles behind, but each look takes the longer the more there is: a sixth of the time while a
    thousand agents connected.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _new_uid() -> str:
    return str(uuid.uuid4())


@contextmanager
def _private_files() -> Iterator[None]:
    """What is made in here, as the socket, is for its owner alone from its first moment."""
    before = os.umask(stat.S_IRWXG | stat.S_IRWXO | stat.S_IXUSR)
    try:
        yield
    finally:
        os.umask(before)
