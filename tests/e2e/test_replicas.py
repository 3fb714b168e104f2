"""Two control planes on an etcd of three, and faults between the hosts: killed, frozen and cut off, one at a time.

Nobody who uses the API notices more than a pause, and nothing that runs notices at all.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any

import grpc.aio
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc

from lab import cuts
from lab.lab import Lab
from lab.plan import API_PORT, ETCD_PORT, Host, saved
from lab.processes import inhabitants
from podwire import errors, v1
from podwire.client import Client, RetryPolicy
from tests.e2e.cluster import ROOT, Cluster, Space, eventually, is_ready, restarts, run

pytestmark = pytest.mark.root

# Seconds in which a client or an agent of a replica that went silent is at work with another one: 9 s until its
# connection counts as dead, and what a busy machine adds.
MOVES_WITHIN = 10.0
SLACK = 10.0

WORKLOAD = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: main
        image: busybox
        imagePullPolicy: IfNotPresent
        command: [sh, -c, "echo started; exec sleep 3600"]
"""


@pytest.fixture(scope="module")
async def cluster() -> AsyncIterator[Cluster]:
    """A lab of this file's own."""
    if os.geteuid() != 0:
        pytest.skip("a lab needs root: network namespaces and containerd")
    name = f"ha-{uuid.uuid4().hex[:6]}"
    size = ["--controlplanes", "2", "--etcd", "3", "--nodes", "1"]
    try:
        await run([sys.executable, "-m", "lab", "up", "--name", name, *size], timeout=180)
        plan = saved(name)
        assert plan is not None
        async with Client.connect([f"unix:{socket}" for socket in plan.api_sockets]) as client:
            yield Cluster(plan, client)
    finally:
        await run([sys.executable, "-m", "lab", "down", name], timeout=120)


@pytest.fixture(autouse=True)
async def whole_again(space: Space) -> AsyncIterator[None]:
    """Whatever a test has broken is mended after it, and has recovered before its namespace goes."""
    yield
    cluster = space.cluster
    lab = Lab(cluster.plan)
    await lab.mend(cuts.saved(cluster.plan))
    for (host, program), process in lab.running().items():
        if process is None:
            await lab.start(cluster.host(host), program)
    for replica in cluster.plan.controlplane_hosts:
        async with client_of(replica) as client:
            await eventually(lambda client=client: answers(client), f"{replica.name} answers")  # type: ignore[misc]


async def answers(client: Client) -> bool:
    try:
        await client.namespaces.get("default")
    except errors.PodwireError:
        return False
    return True


async def replica_of(cluster: Cluster, node: str = "node1") -> Host:
    """The host of the replica that has the node's session."""
    address = (await cluster.client.node_sessions.get(node)).spec.replica_address
    return next(host for host in cluster.plan.controlplane_hosts if address == f"{host.address}:{API_PORT}")


def other_than(cluster: Cluster, replica: Host) -> Host:
    return next(host for host in cluster.plan.controlplane_hosts if host != replica)


def client_of(replica: Host, **more: Any) -> Client:
    """A client of this replica alone, over its socket, which no cut affects."""
    return Client.connect(f"unix:{replica.run / 'api.sock'}", **more)


@asynccontextmanager
async def undisturbed(space: Space, *, survivor: Host) -> AsyncIterator[None]:
    """Around a fault: running pods, a client that follows from another host, and somebody who writes all the time.

    Afterwards the node was never reported as anything but ready, nothing has restarted, the client had an answer to
    every read within its time and every event exactly once, and new pods start. `survivor` is a replica that is well
    all the time.
    """
    await space.apply(WORKLOAD)
    before = await space.wait_for_pods(lambda pods: len(pods) == 2 and all(map(is_ready, pods)))
    written: list[str] = []
    readiness: set[str] = set()
    async with following(space) as follower, client_of(survivor) as client:
        tasks = [
            asyncio.create_task(write_maps(space, client, written)),
            asyncio.create_task(note_readiness(client, readiness)),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [result for result in results if not isinstance(result, asyncio.CancelledError)] == []
        await create_map(space, client, "end")
        async with asyncio.timeout(MOVES_WITHIN + SLACK):
            report, _ = await follower.communicate()
    result = json.loads(report.splitlines()[-1])
    assert result["failures"] == []
    assert result["longest"] < MOVES_WITHIN + SLACK
    # The last write may have been broken off, or not.
    created = [name for kind, name, _ in result["events"] if kind == "ADDED"]
    assert created[: len(written)] == written
    assert created[len(written) :] in (["end"], [f"map-{len(written)}", "end"])
    revisions = [revision for _, _, revision in result["events"]]
    assert revisions == sorted(set(revisions))
    assert readiness == {"True"}
    after = {pod.metadata.name: pod for pod in await space.pods()}
    for pod in before:
        assert restarts(after[pod.metadata.name]) == 0
        assert is_ready(after[pod.metadata.name])
    await scale(space, 3)
    await space.wait_for_pods(lambda pods: len(pods) == 3 and all(map(is_ready, pods)))


async def scale(space: Space, replicas: int) -> None:
    """As a person does it: a write whose fate is not known is made again."""
    command = ["scale", "deployment", "web", "--replicas", str(replicas)]

    async def is_done() -> bool:
        return (await space.podctl(*command, check=False)).code == 0

    await eventually(is_done, f"the deployment is scaled to {replicas}")


@asynccontextmanager
async def following(space: Space) -> AsyncIterator[asyncio.subprocess.Process]:
    """The follower, on the host "client", which knows every replica by its address."""
    plan = space.cluster.plan
    endpoints = [f"{host.address}:{API_PORT}" for host in plan.controlplane_hosts]
    tls = {"ca": "ca.crt", "cert": "client.crt", "key": "client.key"}
    config = plan.pki / "follower.yaml"
    config.write_text(json.dumps({"endpoints": endpoints, "tls": tls}))
    command = ["nsenter", f"--net={plan.client.netns}", "--", sys.executable, "-m", "tests.e2e.follower"]
    pipe = asyncio.subprocess.PIPE
    follower = await asyncio.create_subprocess_exec(*command, config, space.name, cwd=ROOT, stdout=pipe)
    try:
        assert follower.stdout is not None
        async with asyncio.timeout(30):
            assert await follower.stdout.readline() == b"ready\n"
        yield follower
    finally:
        if follower.returncode is None:
            follower.kill()
            await follower.wait()


async def write_maps(space: Space, client: Client, written: list[str]) -> None:
    while True:
        name = f"map-{len(written)}"
        await create_map(space, client, name)
        written.append(name)
        await asyncio.sleep(0.1)


async def create_map(space: Space, client: Client, name: str) -> None:
    made = v1.ConfigMap(metadata=v1.ObjectMeta(name=name, namespace=space.name))
    await client.config_maps.with_retry(RetryPolicy(patience=30)).create_or_get(made)


async def note_readiness(client: Client, seen: set[str]) -> None:
    """Every state of readiness that the node is said to be in."""
    async with aclosing(client.nodes.watch(send_initial_events=True)) as events:
        async for event in events:
            if event.type != "BOOKMARK":
                seen.update(c.status for c in event.object.status.conditions if c.type == "Ready")


async def test_exec_and_logs_go_through_every_replica(space: Space) -> None:
    await space.apply(WORKLOAD)
    pods = await space.wait_for_pods(lambda pods: len(pods) == 2 and all(map(is_ready, pods)))
    name = pods[0].metadata.name
    for replica in space.cluster.plan.controlplane_hosts:
        async with client_of(replica) as client:
            request = v1.LogsRequest(namespace=space.name, name=name)
            assert b"".join([chunk async for chunk in client.pods.logs(request)]) == b"started\n"
            start = v1.ExecStart(namespace=space.name, name=name, command=["sh", "-c", "cat; exit 7"], stdin=True)
            async with client.pods.exec(start) as session:
                await session.write(b"through " + replica.name.encode())
                await session.close_stdin()
                assert [data async for _, data in session] == [b"through " + replica.name.encode()]
            assert session.exit_code == 7
            with pytest.raises(errors.NotFound):
                _ = [
                    chunk
                    async for chunk in client.pods.logs(v1.LogsRequest(namespace=space.name, name=name, previous=True))
                ]


async def test_pods_are_created_while_etcds_leader_is_killed(space: Space) -> None:
    cluster = space.cluster
    async with undisturbed(space, survivor=cluster.plan.controlplane):
        leader = await etcd_leader(cluster)
        await scale(space, 6)
        await space.wait_for_pods(lambda pods: len(pods) > 2)
        await cluster.lab("kill", f"{cluster.plan.name}/{leader.name}", "etcd")
        await space.wait_for_pods(lambda pods: len(pods) == 6 and all(map(is_ready, pods)))
        await cluster.lab("start", f"{cluster.plan.name}/{leader.name}", "etcd")
        await scale(space, 2)


async def test_a_replica_is_killed(space: Space) -> None:
    cluster = space.cluster
    replica = await replica_of(cluster)
    other = other_than(cluster, replica)
    async with undisturbed(space, survivor=other):
        await cluster.lab("kill", f"{cluster.plan.name}/{replica.name}", "controlplane")
        await wait_for_session_at(other)


@pytest.mark.slow
async def test_a_replica_is_frozen(space: Space) -> None:
    replica = await replica_of(space.cluster)
    other = other_than(space.cluster, replica)
    async with undisturbed(space, survivor=other):
        with frozen(replica):
            await wait_for_session_at(other)


async def test_a_replica_is_cut_off(space: Space) -> None:
    cluster = space.cluster
    replica = await replica_of(cluster)
    other = other_than(cluster, replica)
    async with undisturbed(space, survivor=other), client_of(replica) as cut_off:
        seen: list[str] = []
        before = await cut_off.config_maps.list(namespace=space.name)
        watching = asyncio.create_task(note_names(cut_off, space, before.resource_version, seen))
        await cluster.lab("cut", f"{cluster.plan.name}/{replica.name}")
        await wait_for_session_at(other)
        with pytest.raises(errors.Unavailable):
            async with asyncio.timeout(MOVES_WITHIN + SLACK):
                await cut_off.with_retry(RetryPolicy.NEVER).config_maps.list(namespace=space.name)
        assert (await cut_off.config_maps.list(namespace=space.name, cached=True)).items
        await cluster.lab("mend", f"{cluster.plan.name}/{replica.name}")
        async with client_of(other) as well:
            now = (await well.config_maps.list(namespace=space.name)).items
        missed = sorted(now, key=lambda item: int(item.metadata.resource_version))
        wanted = [m.metadata.name for m in missed if int(m.metadata.resource_version) > int(before.resource_version)]
        assert wanted
        await eventually(lambda: has_come(seen, wanted), f"watchers of {replica.name} miss nothing")
        assert seen[: len(wanted)] == wanted
        watching.cancel()
        await asyncio.wait([watching])


@pytest.mark.slow
async def test_a_replica_is_cut_off_from_etcd_alone(space: Space) -> None:
    cluster = space.cluster
    replica = await replica_of(cluster)
    other = other_than(cluster, replica)
    members = [option for member in cluster.plan.etcd_hosts for option in ("--to", member.name)]
    async with undisturbed(space, survivor=other):
        await cluster.lab("cut", f"{cluster.plan.name}/{replica.name}", *members)
        await wait_for_session_at(other)


async def test_a_member_of_etcd_is_cut_off(space: Space) -> None:
    cluster = space.cluster
    async with undisturbed(space, survivor=cluster.plan.controlplane):
        leader = await etcd_leader(cluster)
        await cluster.lab("cut", f"{cluster.plan.name}/{leader.name}")
        await scale(space, 4)
        await space.wait_for_pods(lambda pods: len(pods) == 4 and all(map(is_ready, pods)))
        await cluster.lab("mend", f"{cluster.plan.name}/{leader.name}")
        await scale(space, 2)


async def test_a_client_whose_packets_are_lost_leaves_nothing_at_the_servers(space: Space) -> None:
    cluster = space.cluster
    client = str(cluster.plan.client.address)
    async with following(space):
        assert await connections_from(cluster, client) >= 1
        await cluster.lab("cut", f"{cluster.plan.name}/client")

        async def are_gone() -> bool:
            return await connections_from(cluster, client) == 0

        await eventually(are_gone, "the servers let a silent client go", timeout=MOVES_WITHIN + SLACK)


async def connections_from(cluster: Cluster, address: str) -> int:
    """How many connections the replicas hold with a host, by their own account."""
    packed = ipaddress.ip_address(address).packed
    found = 0
    for replica in cluster.plan.controlplane_hosts:
        async with grpc.aio.insecure_channel(f"unix:{replica.run / 'api.sock'}") as channel:
            stub: Any = channelz_pb2_grpc.ChannelzStub(channel)
            for server in (await stub.GetServers(channelz_pb2.GetServersRequest())).server:
                request = channelz_pb2.GetServerSocketsRequest(server_id=server.ref.server_id)
                for socket in (await stub.GetServerSockets(request)).socket_ref:
                    asked = channelz_pb2.GetSocketRequest(socket_id=socket.socket_id)
                    try:
                        shown = (await stub.GetSocket(asked)).socket
                    except grpc.aio.AioRpcError:
                        continue  # It has ended since.
                    # IPv4 addresses come as they are, or mapped into IPv6.
                    found += shown.remote.tcpip_address.ip_address.endswith(packed)
    return found


@contextmanager
def frozen(replica: Host) -> Iterator[None]:
    """All processes of the host stand still; their connections stay."""
    pids = [process.pid for process in inhabitants([replica.netns])]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def wait_for_session_at(replica: Host, node: str = "node1") -> None:
    """Until the node's agent has its session with this replica."""
    address = f"{replica.address}:{API_PORT}"
    try:
        async with asyncio.timeout(MOVES_WITHIN + SLACK), client_of(replica) as client:
            watch = client.node_sessions.watch(field_selector=f"metadata.name={node}", send_initial_events=True)
            async with aclosing(watch) as events:
                async for event in events:
                    assert event.type != "DELETED", "the lease is the same"
                    if event.object.spec.replica_address == address:
                        return
    except TimeoutError:
        raise AssertionError(f"the session of {node} has not come to {replica.name}") from None


async def note_names(client: Client, space: Space, resource_version: str, seen: list[str]) -> None:
    watch = client.config_maps.watch(namespace=space.name, resource_version=resource_version)
    async with aclosing(watch) as events:
        async for event in events:
            seen.append(event.object.metadata.name)


async def has_come(seen: list[str], wanted: list[str]) -> bool:
    await asyncio.sleep(0.1)
    return set(wanted) <= set(seen)


async def etcd_leader(cluster: Cluster) -> Host:
    plan = cluster.plan
    urls = {f"https://{host.address}:{ETCD_PORT}": host for host in plan.etcd_hosts}
    tls = [f"--cacert={plan.pki}/ca.crt", f"--cert={plan.pki}/etcd1.crt", f"--key={plan.pki}/etcd1.key"]
    etcdctl = ["env", "ETCDCTL_API=3", "etcdctl", f"--endpoints={','.join(urls)}", *tls]
    shown = await cluster.on("client", *etcdctl, "endpoint", "status", "--write-out=json")
    for member in json.loads(shown.stdout):
        status = member["Status"]
        if status["leader"] == status["header"]["member_id"]:
            return urls[member["Endpoint"]]
    raise AssertionError(f"no leader: {shown.stdout}")
