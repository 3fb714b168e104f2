"""Too much at once: who is refused, who is served all the same, and what it costs the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from controlplane.settings import LoadLimits, Room
from lab.certificates import Authority
from podwire import errors, v1
from podwire.client import Client, Fence, RetryPolicy, Settings, Tls
from tests.integration.controlplane.api_process import api_process, store_pods
from tests.integration.controlplane.conftest import connected
from tests.integration.controlplane.etcd_server import EtcdServer, free_ports
from tests.integration.controlplane.network import eventually
from tests.integration.controlplane.replica import Api, config_map, running_api
from tests.integration.controlplane.unread import unread

ONCE = Settings(retry=RetryPolicy.NEVER)
# An election is believed on the socket; whether it is held matters to writes only.
SCHEDULER = Fence("/podwire/elections/scheduler", 1)


def few(total: int, system: int, user: int, *, queue: int = 0) -> LoadLimits:
    return LoadLimits(requests=Room(total, system, user, queue=queue, wait=20.0), streams=Room(total, system, user))


async def test_a_greedy_user_is_refused_and_the_scheduler_is_served(own_etcd_server: EtcdServer) -> None:
    limits = few(total=4, system=2, user=2, queue=2)
    async with (
        running_api(own_etcd_server.url, limits=limits) as api,
        Client.connect(api.endpoint, settings=ONCE) as greedy,
        Client.connect(api.endpoint, settings=ONCE, fence=SCHEDULER) as scheduler,
    ):
        # Without etcd nothing can be proven fresh: what is let in stays.
        own_etcd_server.freeze()
        gets = [asyncio.create_task(greedy.namespaces.get("default")) for _ in range(20)]
        await eventually(lambda: sum(get.done() for get in gets) == 16)
        refused = [get.exception() for get in gets if get.done()]
        assert all(isinstance(error, errors.Overloaded) and error.retry_after > 0 for error in refused)
        assert refused[0] is not None and "local administrator has 2 of at most 2" in str(refused[0])
        async with asyncio.timeout(20):
            assert (await scheduler.namespaces.get("default", cached=True)).status.phase == "Active"
        own_etcd_server.thaw()
        # Etcd may take a moment; what waited has its turn, in flight or queued.
        done = await asyncio.gather(*gets, return_exceptions=True)
    assert sum(isinstance(answer, v1.Namespace | errors.Unavailable | errors.Timeout) for answer in done) == 4


async def test_refused_writes_were_not_carried_out_and_the_client_sends_them_again(own_etcd_server: EtcdServer) -> None:
    limits = LoadLimits(requests=Room(2, 0, 2, queue=1, wait=0.01))
    patient = Settings(retry=RetryPolicy(patience=60))
    async with (
        running_api(own_etcd_server.url, limits=limits) as api,
        Client.connect(api.endpoint, settings=patient) as client,
    ):
        # A second creation of one would fail with AlreadyExists.
        await asyncio.gather(*(client.config_maps.create(config_map(f"c{number}")) for number in range(30)))
        assert api.replica._users.requests.refused > 0
        assert len((await client.config_maps.list()).items) == 30


@asynccontextmanager
async def tls_api(etcd_url: str, folder: Path, limits: LoadLimits) -> AsyncIterator[tuple[Api, str]]:
    """A replica at an address, with certificates as the lab makes them."""
    now = datetime.now(UTC)
    authority = Authority.in_folder(folder, name="test", now=now)
    for name, group in (("server", "controlplane"), ("n1", "nodes"), ("anna", "client"), ("bert", "client")):
        authority.issue(
            name, organization=f"podwire:{group}", addresses=[IPv4Address("127.0.0.1")], names=[name], now=now
        )
    listen = f"127.0.0.1:{free_ports(1)[0]}"
    async with running_api(etcd_url, listen=listen, tls=tls_of(folder, "server"), limits=limits) as api:
        yield api, listen


def tls_of(folder: Path, name: str) -> Tls:
    return Tls(folder / "ca.crt", folder / f"{name}.crt", folder / f"{name}.key")


async def test_users_are_told_apart_by_their_certificates(etcd_server: EtcdServer, tmp_path: Path) -> None:
    limits = few(total=4, system=2, user=1)
    async with tls_api(etcd_server.url, tmp_path, limits) as (_, address), AsyncExitStack() as undo:
        open_calls = []

        async def watching(name: str) -> str:
            """Opens a watch; whom the server takes the client for, where it refuses."""
            client = Client.connect(address, tls=tls_of(tmp_path, name), settings=ONCE)
            await undo.enter_async_context(client)
            call = client.channel.unary_stream(
                "/podwire.v1.Pods/Watch",
                request_serializer=v1.WatchRequest.SerializeToString,
                response_deserializer=v1.PodWatchResponse.FromString,
            )(v1.WatchRequest(send_initial_events=True))
            # gRPC cancels a call that nobody refers to any more.
            open_calls.append(call)
            try:
                assert await call.read()
            except Exception as error:  # whatever it is, the test shows it
                return str(errors.from_rpc_error(error).metadata.get("user"))  # type: ignore[arg-type]
            return "served"

        assert [await watching(name) for name in ("anna", "anna", "bert", "bert")] == [
            "served",
            "anna",
            "served",
            "bert",
        ]
        assert [await watching("n1"), await watching("n1")] == ["served", "node n1"]


async def test_lists_that_nobody_reads_cost_bounded_memory_and_are_ended(own_etcd_server: EtcdServer) -> None:
    async with connected(own_etcd_server) as etcd:
        await store_pods(etcd, 5_000)
    async with (
        api_process(own_etcd_server.url, "--max-read-seconds=1", "--max-list-mib=16") as api,
        AsyncExitStack() as undo,
        Client.connect(api.endpoint, fence=SCHEDULER) as scheduler,
    ):
        await scheduler.pods.list()
        before = api.memory()
        clients = [await undo.enter_async_context(unread(api.socket)) for _ in range(60)]
        for client in clients:
            client.call("/podwire.v1.Pods/List", v1.ListRequest())
        await eventually(lambda: sum(len(client.ended) for client in clients) >= 20, within=60)
        # The others are served meanwhile.
        assert len((await scheduler.pods.list()).items) == 5_000
        await eventually(lambda: all(client.ended for client in clients), within=60)
        # 60 pages of 2 MiB are 120 MiB.
        assert api.memory("VmHWM") < before + 70
        assert "a call whose client does not read is ended" in api.log
        bytes_left = 'podwire_load{what="bytes of lists on their way"}'
        await eventually(lambda: _is_zero(api.metric(bytes_left)))


async def _is_zero(value: Awaitable[float]) -> bool:
    return await _holds(value, 0.0)


async def test_watchers_that_stand_still_are_ended_and_the_others_hear_as_soon_as_before(
    own_etcd_server: EtcdServer,
) -> None:
    async with (
        api_process(own_etcd_server.url, "--max-read-seconds=1") as api,
        AsyncExitStack() as undo,
        Client.connect(api.endpoint) as client,
        aclosing(client.config_maps.watch(namespace="default", send_initial_events=True)) as events,
    ):
        loop = asyncio.get_running_loop()

        async def delays(prefix: str, count: int) -> list[float]:
            """From each creation to its event."""
            took = []
            for number in range(count):
                start = loop.time()
                await client.config_maps.create(config_map(f"{prefix}{number}", data="x" * 100_000))
                async with asyncio.timeout(30):
                    while (await anext(events)).object.metadata.name != f"{prefix}{number}":
                        pass
                took.append(loop.time() - start)
            return sorted(took)

        # What is there comes first, and so the watch stands.
        assert (await anext(events)).type == "BOOKMARK"
        alone = await delays("before", 30)
        before = api.memory()
        connection = await undo.enter_async_context(unread(api.socket))
        for _ in range(50):
            connection.call("/podwire.v1.ConfigMaps/Watch", v1.WatchRequest(namespace="default"))
        await eventually(lambda: len(connection.begun) == 50)
        beside = await delays("while", 60)
        # One that waited for those who stand still would wait for seconds.
        assert beside[30] < 4 * alone[15] + 0.25, (alone, beside)
        await eventually(lambda: len(connection.ended) == 50, within=60)
        await eventually(lambda: _holds(api.metric('podwire_watchers{kind="ConfigMap"}'), 1))
        await eventually(lambda: _is_zero(api.metric("podwire_watch_bytes")))
        assert api.memory() < before + 100


async def test_an_agent_that_does_not_read_loses_its_session(own_etcd_server: EtcdServer) -> None:
    async with (
        api_process(own_etcd_server.url) as api,
        Client.connect(api.endpoint) as client,
        unread(api.socket) as connection,
    ):
        hello = v1.AgentMessage(hello=v1.Hello(node_name="deaf", instance="i1"))
        stream = connection.call("/podwire.v1.Agents/Session", hello, last=False)
        await eventually(lambda: stream in connection.begun)
        assert (await client.node_sessions.get("deaf")).metadata.name == "deaf"
        # A few more than may be left unread, 12 bytes each: the windows of both directions have room for 64 KiB.
        for number in range(1_100):
            connection.say(stream, v1.AgentMessage(heartbeat=v1.Heartbeat(sequence=number % 100)))
        await eventually(lambda: "the agent of the node deaf does not read: 1024 messages wait" in api.log)
        await eventually(lambda: stream in connection.ended)


async def _holds(value: Awaitable[float], wanted: float) -> bool:
    return await value == wanted


@pytest.mark.parametrize("verb", ["create", "update", "update_status", "apply", "patch"])
async def test_an_object_that_is_too_large_is_named(client: Client, ns: str, verb: str) -> None:
    large = "x" * 1_600_000
    made = deployment("large", ns)
    if verb != "create":
        made = await client.deployments.create(made)
    with pytest.raises(errors.TooLarge, match=f"{ns}/large"):
        match verb:
            case "create" | "update":
                made.spec.template.spec.containers[0].env.add(name="LARGE", value=large)
                await (client.deployments.create(made) if verb == "create" else client.deployments.update(made))
            case "update_status":
                made.status.conditions.add(type="Available", status="True", message=large)
                await client.deployments.update_status(made)
            case "patch":
                await client.deployments.patch("large", {"spec": _with_env(large)}, namespace=ns)
            case _:
                metadata = {"name": "large", "namespace": ns}
                tree = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": _with_env(large)}
                await client.deployments.apply(tree, force=True)


def deployment(name: str, namespace: str) -> v1.Deployment:
    made = v1.Deployment(metadata=v1.ObjectMeta(name=name, namespace=namespace))
    made.spec.selector.match_labels["app"] = name
    made.spec.template.metadata.labels["app"] = name
    made.spec.template.spec.containers.add(name="main", image="docker.io/library/busybox:1")
    return made


def _with_env(value: str) -> dict[str, object]:
    env = [{"name": "LARGE", "value": value}]
    return {
        "template": {"spec": {"containers": [{"name": "main", "image": "docker.io/library/busybox:1", "env": env}]}}
    }


async def test_a_request_larger_than_grpc_carries_says_so(client: Client, ns: str) -> None:
    with pytest.raises(errors.TooLarge, match="larger than"):
        await client.config_maps.create(config_map("huge", ns, data="x" * 17_000_000))


async def test_a_selector_of_a_megabyte_and_labels_by_the_thousand_get_an_answer(client: Client, ns: str) -> None:
    made = config_map("labelled", ns)
    made.metadata.labels.update({f"label-{number}": "x" for number in range(5_000)})
    await client.config_maps.create(made)
    listed = await client.config_maps.list(
        namespace=ns, label_selector=",".join(f"label-{number}=x" for number in range(5_000))
    )
    assert [item.metadata.name for item in listed.items] == ["labelled"]
    with pytest.raises(errors.Invalid):
        await client.config_maps.list(namespace=ns, label_selector="(" * 1_000_000)
    assert (await client.config_maps.list(namespace=ns, field_selector="," * 1_000_000)).items
