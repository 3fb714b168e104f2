"""What a node costs the control plane: its CPU and memory, and how long a pod takes, as the number of agents grows.

All roles run, on an etcd of their own, with the agents of `bench.simulated_agents` (one process, a TLS connection an
agent) and some pods on each. Once everything is reported the control plane's processes are watched at rest, when there
are heartbeats alone; then pods are made one after another, each scheduled, reported as ready and seen so by a watcher.
The floors are a bare gRPC server with the same connections and heartbeats, and a bare etcd transaction of a pod's size.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench import backends
from bench.api import numbers
from bench.measures import Measure
from bench.simulated_agents import node_name
from bench.usage import cpu_seconds, resident_mib
from controlplane.store import operations as op
from controlplane.store.etcd import Etcd
from lab.certificates import Authority
from podwire import v1
from podwire.client import Client, Tls

_COUNTS: Final = (10, 100, 1000)
_PODS_EACH: Final = 30
# A /24 for each of 1,000 nodes and more.
_POD_CIDR: Final = "10.128.0.0/12"
_AT_ONCE: Final = 64
# Long enough for ten heartbeats of each agent; CPU time is counted in hundredths of a second.
_REST_SECONDS: Final = 10.0
_START_SECONDS: Final = 300.0
_LABEL: Final = {"bench": "one-by-one"}


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU milliseconds a second at rest, and MiB in RAM, by process."""

    cpu: Mapping[str, float]
    memory: Mapping[str, float]

    @property
    def total_cpu(self) -> float:
        return sum(self.cpu.values())

    @property
    def total_memory(self) -> float:
        return sum(self.memory.values())


@dataclass(frozen=True, slots=True)
class ControlPlane:
    port: int
    tls: Tls
    etcd_url: str
    # api, scheduler, controllers, etcd
    pids: Mapping[str, int]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--agents", type=numbers, default=_COUNTS, help="how many (10,100,1000)", metavar="N,N")
    parser.add_argument("--pods", type=int, default=_PODS_EACH, help="of each agent's node (%(default)s)")
    parser.add_argument("-n", type=int, default=50, help="pods made one by one (%(default)s)")


async def many_agents(options: argparse.Namespace) -> AsyncIterator[Measure]:
    """Four measures for each number of agents."""
    pods_each: int = options.pods
    for count in options.agents:
        floor = await _bare(count)
        async with (
            running_control_plane() as plane,
            agents(plane.port, plane.tls, count, pods=count * pods_each) as output,
            Client.connect(f"127.0.0.1:{plane.port}", tls=plane.tls) as client,
        ):
            await _said(output, "connected")
            await _fill(client, count, pods_each)
            if pods_each:
                await _said(output, f"ready {count * pods_each}")
            used = await _at_rest(plane.pids)
            created, ready, transactions = await _one_by_one(client, plane.etcd_url, options.n)
        params: dict[str, object] = {"agents": count, "pods": count * pods_each}
        roles = {name: pid for name, pid in plane.pids.items() if name != "etcd"}
        cpu = sum(used.cpu[name] for name in roles)
        by_process = {f"{name}_ms": round(value, 1) for name, value in used.cpu.items()}
        yield Measure(
            "agents_cpu", "CPU ms per agent and second", params | by_process, floor.total_cpu / count, value=cpu / count
        )
        by_process = {f"{name}_mib": round(value, 1) for name, value in used.memory.items()}
        memory = sum(used.memory[name] for name in roles)
        yield Measure("agents_memory", "MiB", params | by_process, floor.total_memory, value=memory)
        median_transaction = sorted(transactions)[len(transactions) // 2]
        yield Measure("agents_pod_create", "ms", params, median_transaction, created)
        yield Measure("agents_pod_ready", "ms", params, median_transaction, ready)


@asynccontextmanager
async def running_control_plane() -> AsyncIterator[ControlPlane]:
    """etcd and the three roles, each a process, with room for many nodes."""
    async with AsyncExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="podwire-bench-")))
        tls = backends.certificates(folder / "tls")
        etcd_port, peer_port, port = backends.free_ports(3)
        etcd_url = f"http://127.0.0.1:{etcd_port}"
        etcd = await undo.enter_async_context(backends.etcd_process(folder, etcd_url, f"http://127.0.0.1:{peer_port}"))
        common = [f"--etcd={etcd_url}", f"--run-dir={folder}", f"--socket={folder / 'api.sock'}"]
        served = [
            f"--listen=127.0.0.1:{port}", f"--pod-cidr={_POD_CIDR}",
            f"--tls-ca={tls.ca}", f"--tls-cert={tls.cert}", f"--tls-key={tls.key}",
        ]  # fmt: skip
        pids = {"etcd": etcd.pid}
        for role, more in {"api": served, "scheduler": [], "controllers": []}.items():
            arguments = backends.module("controlplane", role, *common, *more)
            process = await undo.enter_async_context(backends.process(folder / f"{role}.log", arguments))
            pids[role] = process.pid
            if role == "api":
                await backends.listening(process, port)
        yield ControlPlane(port, tls, etcd_url, pids)


@asynccontextmanager
async def agents(port: int, tls: Tls, count: int, *more: str, pods: int = 0) -> AsyncIterator[asyncio.StreamReader]:
    """The simulated agents, and what they print."""
    folder = tls.ca.parent
    _issue_certificates(folder, count)
    arguments = backends.module(
        "bench.simulated_agents", str(count), f"127.0.0.1:{port}", str(folder), f"--pods={pods}", *more
    )
    process = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE, stderr=sys.stderr)
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _issue_certificates(folder: Path, count: int) -> None:
    """Every node has its own, as limits and permissions go by it."""
    now = datetime.now(UTC)
    authority = Authority.in_folder(folder, name="podwire-bench", now=now)
    for number in range(count):
        authority.issue(node_name(number), organization="podwire:nodes", addresses=[], names=["node"], now=now)


async def _said(output: asyncio.StreamReader, wanted: str) -> None:
    async with asyncio.timeout(_START_SECONDS):
        while (line := (await output.readline()).decode()) != f"{wanted}\n":
            if not line:
                raise SystemExit(f"the simulated agents ended before they were {wanted}")


async def _bare(count: int) -> Usage:
    """The floor: as many connections and heartbeats, and nothing behind them."""
    async with AsyncExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="podwire-bench-")))
        tls = backends.certificates(folder / "tls")
        (port,) = backends.free_ports(1)
        arguments = backends.module(
            "bench.bare_sessions", f"127.0.0.1:{port}", f"--ca={tls.ca}", f"--cert={tls.cert}", f"--key={tls.key}"
        )
        process = await undo.enter_async_context(backends.process(folder / "bare.log", arguments))
        await backends.listening(process, port)
        pids = {"bare": process.pid}
        output = await undo.enter_async_context(agents(port, tls, count, "--bare"))
        await _said(output, "connected")
        return await _at_rest(pids)


async def _fill(client: Client, count: int, pods_each: int) -> None:
    """Pods that are on their nodes already: how they got there is measured afterwards, one by one."""
    numbers = iter(range(count * pods_each))

    async def create() -> None:
        for number in numbers:
            await client.pods.create(_pod(f"filling-{number:06}", node=node_name(number % count)))

    async with asyncio.TaskGroup() as owner:
        for _ in range(_AT_ONCE):
            owner.create_task(create())


async def _at_rest(pids: Mapping[str, int]) -> Usage:
    """What is used while nothing changes; the seconds are the measurement."""
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    began = time.monotonic()
    await asyncio.sleep(_REST_SECONDS)
    seconds = time.monotonic() - began
    cpu = {name: (cpu_seconds(pid) - before[name]) * 1000 / seconds for name, pid in pids.items()}
    return Usage(cpu, _memory(pids))


def _memory(pids: Mapping[str, int]) -> dict[str, float]:
    return {name: resident_mib(pid) for name, pid in pids.items()}


async def _one_by_one(client: Client, etcd_url: str, samples: int) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds until a pod is created, until a watcher sees it ready, and of a bare transaction, alternately."""
    created, ready, transactions = [], [], []
    selector = ",".join(f"{key}={value}" for key, value in _LABEL.items())
    async with Etcd.connect([etcd_url]) as etcd:
        for number in range(samples):
            pod = _pod(f"measured-{number}")
            pod.metadata.labels.update(_LABEL)
            content = pod.SerializeToString()
            following = client.pods.watch(label_selector=selector, send_initial_events=True)
            async for event in following:
                if event.type == "BOOKMARK":
                    break
            began = time.perf_counter()
            await client.pods.create(pod)
            created.append((time.perf_counter() - began) * 1000)
            async for event in following:
                if event.object.metadata.name == pod.metadata.name and event.object.status.phase == "Running":
                    break
            ready.append((time.perf_counter() - began) * 1000)
            await following.aclose()
            key = f"/bench/{number}".encode()
            began = time.perf_counter()
            await etcd.txn([op.absent(key)], [op.put(key, content)])
            transactions.append((time.perf_counter() - began) * 1000)
    return created, ready, transactions


def _pod(name: str, *, node: str = "") -> v1.Pod:
    container = v1.Container(name="app", image="docker.io/library/busybox:latest", command=["sleep", "1000"])
    return v1.Pod(
        metadata=v1.ObjectMeta(name=name, namespace="default"), spec=v1.PodSpec(node_name=node, containers=[container])
    )
