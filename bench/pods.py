"""How long a pod takes to be ready, and how many a node starts a second, against bare containerd in the same run.

Both clocks start and stop where a user's would: with the Create call, and with the watch event that says Ready=True.
"""

from __future__ import annotations

import argparse
import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

from bench.floor import Floor
from bench.labs import running_lab
from bench.measures import Measure, percentile
from lab.plan import Host, Plan
from podwire import v1
from podwire.client import Client

IMAGE = "docker.io/library/busybox:latest"
# Beyond this a pod is not slow but lost.
TIMEOUT = 120.0


def bench_pod(name: str, namespace: str, node: str) -> v1.Pod:
    """One container without probes, its image present, on one node."""
    container = v1.Container(name="main", image=IMAGE, image_pull_policy="IfNotPresent", command=["/bin/sleep", "3600"])
    spec = v1.PodSpec(
        containers=[container],
        termination_grace_period_seconds=0,
        node_selector={"kubernetes.io/hostname": node},
    )
    return v1.Pod(metadata=v1.ObjectMeta(name=name, namespace=namespace), spec=spec)


def is_ready(pod: v1.Pod) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions)


class Arrivals:
    """When each pod of a namespace became ready, and when it was gone, as a watcher sees it."""

    def __init__(self) -> None:
        self.ready: dict[str, float] = {}
        self.gone: set[str] = set()
        self._changed = asyncio.Condition()

    async def follow(self, client: Client, namespace: str, started: asyncio.Event) -> None:
        watch = client.pods.watch(namespace=namespace, send_initial_events=True)
        async with aclosing(watch) as events:
            async for event in events:
                now = time.perf_counter()
                name = event.object.metadata.name
                async with self._changed:
                    if event.type == "BOOKMARK":
                        started.set()
                    elif event.type == "DELETED":
                        self.gone.add(name)
                    elif is_ready(event.object):
                        self.ready.setdefault(name, now)
                    self._changed.notify_all()

    async def wait(self, holds: Callable[[Arrivals], bool]) -> None:
        async with asyncio.timeout(TIMEOUT), self._changed:
            await self._changed.wait_for(lambda: holds(self))


@asynccontextmanager
async def watched_namespace(client: Client) -> AsyncIterator[tuple[str, Arrivals]]:
    name = f"bench-{uuid.uuid4().hex[:6]}"
    await client.namespaces.create(v1.Namespace(metadata=v1.ObjectMeta(name=name)))
    arrivals, started = Arrivals(), asyncio.Event()
    async with asyncio.TaskGroup() as owner:
        following = owner.create_task(arrivals.follow(client, name, started), name="arrivals")
        await started.wait()
        yield name, arrivals
        following.cancel()
    await client.namespaces.delete(name)


async def start_one(client: Client, namespace: str, arrivals: Arrivals, node: str, name: str) -> float:
    """Milliseconds from Create to Ready, of a pod that is removed again before this returns."""
    began = time.perf_counter()
    await client.pods.create(bench_pod(name, namespace, node))
    await arrivals.wait(lambda arrivals: name in arrivals.ready)
    took = (arrivals.ready[name] - began) * 1000
    await client.pods.delete(name, namespace=namespace)
    await arrivals.wait(lambda arrivals: name in arrivals.gone)
    return took


@asynccontextmanager
async def warm_node(plan: Plan, node: Host) -> AsyncIterator[tuple[Client, str, Arrivals, Floor]]:
    """A node that has the image and has run a pod, and a bare start: nobody measures the first of anything."""
    async with (
        Client.connect(f"unix:{plan.api_socket}") as client,
        watched_namespace(client) as (namespace, arrivals),
    ):
        await start_one(client, namespace, arrivals, node.name, "warm-up")
        async with Floor.connect(node, IMAGE) as floor:
            await floor.start(1)
            yield client, namespace, arrivals, floor


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lab", help="a running lab to use; without it one is made for the run")
    parser.add_argument("-n", type=int, default=30, help="how many pods (%(default)s)")


def add_burst_options(parser: argparse.ArgumentParser) -> None:
    add_options(parser)
    parser.set_defaults(n=50)


async def pod_start(options: argparse.Namespace) -> AsyncIterator[Measure]:
    """`n` pods one after another, each between two bare starts, so that both meet the same noise."""
    pods: list[float] = []
    bare: list[float] = []
    async with running_lab(options.lab) as plan:
        node = plan.node_hosts[0]
        async with warm_node(plan, node) as (client, namespace, arrivals, floor):
            for number in range(options.n):
                bare.append(await floor.start(1) * 1000)
                pods.append(await start_one(client, namespace, arrivals, node.name, f"pod-{number}"))
    yield Measure("pod_start", "ms", {"containers": 1}, floor=percentile(bare, 0.5), samples=pods)


async def pod_burst(options: argparse.Namespace) -> AsyncIterator[Measure]:
    """`n` pods at once on one node; the floor is bare containerd at the concurrency it does best with."""
    async with running_lab(options.lab) as plan:
        for measure in await _burst(plan, options.n):
            yield measure


async def _burst(plan: Plan, n: int) -> list[Measure]:
    node = plan.node_hosts[0]
    async with warm_node(plan, node) as (client, namespace, arrivals, floor):
        bare = {concurrency: n / await floor.start(n, concurrency=concurrency) for concurrency in (2, 4, 8)}
        best = max(bare, key=lambda concurrency: bare[concurrency])
        names = [f"pod-{number}" for number in range(n)]
        began = time.perf_counter()
        async with asyncio.TaskGroup() as creating:
            for name in names:
                creating.create_task(client.pods.create(bench_pod(name, namespace, node.name)), name=name)
        await arrivals.wait(lambda arrivals: arrivals.ready.keys() >= set(names))
        took = max(arrivals.ready[name] for name in names) - began
        times = [(arrivals.ready[name] - began) * 1000 for name in names]
        async with asyncio.TaskGroup() as deleting:
            for name in names:
                deleting.create_task(client.pods.delete(name, namespace=namespace), name=name)
        await arrivals.wait(lambda arrivals: arrivals.gone >= set(names))
    params = {"pods": n, "floor_concurrency": best}
    return [
        Measure("pod_burst", "pods/s", params, floor=bare[best], value=n / took),
        Measure("pod_burst_ready", "ms", params, floor=1000 * n / bare[best], samples=times),
    ]
