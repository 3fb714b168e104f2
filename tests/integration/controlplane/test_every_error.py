"""Every reason of docs/api/errors.md, provoked on a real server on a real etcd: what is listed there does happen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc.aio
import pytest
from google.protobuf.message import Message

from controlplane.settings import LoadLimits, Room
from podwire import errors, v1
from podwire.client import Client, Fence, RetryPolicy, Settings
from tests.integration.controlplane.etcd_server import EtcdServer
from tests.integration.controlplane.replica import Api, config_map, pod, running_api


@dataclass
class World:
    """The run's API with a namespace of the test's own, and servers that a case ruins for itself."""

    api: Api
    client: Client
    ns: str
    etcd_url: str
    folders: pytest.TempPathFactory

    @asynccontextmanager
    async def own(self, *flags: str, timeout: float = 30.0) -> AsyncIterator[tuple[EtcdServer, Client]]:
        """An API on an etcd started with `flags`, and a client that tries once."""
        server = EtcdServer(self.folders.mktemp("etcd"), *flags)
        await server.start()
        once = Settings(retry=RetryPolicy.NEVER, call_timeout=timeout)
        try:
            async with running_api(server.url) as api, Client.connect(api.endpoint, settings=once) as client:
                yield server, client
        finally:
            await server.kill()

    async def raw(self, shape: str, method: str, request: Message, *, api: Api | None = None) -> Any:
        """The first answer of a call with none of the client's help."""
        async with grpc.aio.insecure_channel((api or self.api).endpoint) as channel:
            call = getattr(channel, shape)(f"/podwire.v1.{method}")(request.SerializeToString())
            try:
                return await (call if shape == "unary_unary" else call.read())
            except grpc.aio.AioRpcError as error:
                raise errors.from_rpc_error(error) from None


async def invalid(world: World) -> None:
    await world.client.config_maps.create(config_map("No Name", world.ns))


async def too_large(world: World) -> None:
    large = pod("large", world.ns)
    large.spec.containers[0].env.add(name="BIG", value="x" * 1_700_000)
    await world.client.pods.create(large)


async def not_found(world: World) -> None:
    await world.client.pods.get("nobody", namespace=world.ns)


async def already_exists(world: World) -> None:
    for _ in range(2):
        await world.client.config_maps.create(config_map("twice", world.ns))


async def conflict(world: World) -> None:
    made = await world.client.config_maps.create(config_map("a", world.ns))
    for value in ("1", "2"):
        stale = config_map("a", world.ns, k=value)
        stale.metadata.resource_version = made.metadata.resource_version
        await world.client.config_maps.update(stale)


async def field_conflict(world: World) -> None:
    for manager in ("one", "another"):
        manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": manager}}
        await world.client.config_maps.apply(manifest, namespace=world.ns, field_manager=manager)


async def precondition_failed(world: World) -> None:
    await world.client.config_maps.create(config_map("a", world.ns))
    await world.client.config_maps.delete("a", namespace=world.ns, uid="another")


async def fenced(world: World) -> None:
    async with Client.connect(world.api.endpoint, fence=Fence("/podwire/elections/nobody", 1)) as former:
        await former.config_maps.create(config_map("a", world.ns))


async def history_lost(world: World) -> None:
    request = v1.WatchRequest(namespace=world.ns, resource_version="1", epoch="of another store")
    await world.raw("unary_stream", "Pods/Watch", request)


async def slow_watcher(world: World) -> None:
    async with grpc.aio.insecure_channel(world.api.endpoint) as channel:
        request = v1.WatchRequest(namespace=world.ns).SerializeToString()
        method: Any = channel.unary_stream("/podwire.v1.ConfigMaps/Watch")
        call = method(request)
        await call.initial_metadata()
        for number in range(24):
            await world.client.config_maps.create(config_map(f"c{number}", world.ns, data="x" * 1_000_000))
            await world.client.config_maps.delete(f"c{number}", namespace=world.ns)
        try:
            while await call.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError as error:
            raise errors.from_rpc_error(error) from None


async def overloaded(world: World) -> None:
    limits = LoadLimits(streams=Room(total=1, system=0, user=1))
    async with running_api(world.etcd_url, limits=limits) as api, grpc.aio.insecure_channel(api.endpoint) as channel:
        request = v1.WatchRequest(namespace=world.ns)
        method: Any = channel.unary_stream("/podwire.v1.Pods/Watch")
        first = method(request.SerializeToString())
        await first.initial_metadata()
        await world.raw("unary_stream", "Pods/Watch", request, api=api)


async def store_full(world: World) -> None:
    async with world.own(f"--quota-backend-bytes={4 << 20}") as (_, client):
        for number in range(20):
            await client.config_maps.create(config_map(f"c{number}", text="x" * 900_000))


async def unavailable(world: World) -> None:
    async with world.own() as (etcd, client):
        await etcd.kill()
        await client.config_maps.create(config_map("a"))


async def node_unreachable(world: World) -> None:
    await world.client.pods.create(pod("web", world.ns))
    async for _ in world.client.pods.logs(v1.LogsRequest(namespace=world.ns, name="web")):
        pass


async def timeout(world: World) -> None:
    async with world.own(timeout=1.0) as (etcd, client):
        etcd.freeze()
        try:
            await client.config_maps.create(config_map("a"))
        finally:
            etcd.thaw()


async def unauthenticated(world: World) -> None:
    async with world.own() as (etcd, client):
        for words in ("user add root:secret", "auth enable"):
            command = await asyncio.create_subprocess_exec(
                "etcdctl", f"--endpoints={etcd.url}", *words.split(), stdout=asyncio.subprocess.DEVNULL
            )
            assert await command.wait() == 0
        await client.config_maps.create(config_map("a"))


async def unsupported(world: World) -> None:
    await world.raw("unary_unary", "Pods/Nothing", v1.GetRequest())


async def internal(world: World) -> None:
    # An etcd that refuses what every etcd with its own defaults takes.
    async with world.own("--max-txn-ops=1") as (_, client):
        await client.config_maps.create(config_map("a"))


CASES: Mapping[type[errors.PodwireError], Callable[[World], Awaitable[None]]] = {
    errors.Invalid: invalid,
    errors.TooLarge: too_large,
    errors.NotFound: not_found,
    errors.AlreadyExists: already_exists,
    errors.Conflict: conflict,
    errors.FieldConflict: field_conflict,
    errors.PreconditionFailed: precondition_failed,
    errors.Fenced: fenced,
    errors.HistoryLost: history_lost,
    errors.SlowWatcher: slow_watcher,
    errors.Overloaded: overloaded,
    errors.StoreFull: store_full,
    errors.Unavailable: unavailable,
    errors.NodeUnreachable: node_unreachable,
    errors.Timeout: timeout,
    errors.Unauthenticated: unauthenticated,
    errors.Unsupported: unsupported,
    errors.Internal: internal,
}


def test_every_error_has_a_case() -> None:
    assert set(CASES) == set(errors.ERRORS)


@pytest.mark.parametrize("error", CASES, ids=lambda error: error.reason)
async def test_a_reason_occurs_as_its_page_says(
    error: type[errors.PodwireError],
    api: Api,
    ns: str,
    etcd_server: EtcdServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    async with Client.connect(api.endpoint, settings=Settings(retry=RetryPolicy.NEVER)) as client:
        world = World(api, client, ns, etcd_server.url, tmp_path_factory)
        with pytest.raises(error) as caught:
            async with asyncio.timeout(60):
                await CASES[error](world)

    assert type(caught.value) is error
    assert caught.value.message
