"""SIGKILL of every part, one at a time, while traffic flows and containers write logs: nobody who uses them notices."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.e2e.cluster import ROOT, Cluster, Space, eventually, is_ready, restarts

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
      terminationGracePeriodSeconds: 1
      containers:
      - name: nginx
        image: nginx
        imagePullPolicy: IfNotPresent
        readinessProbe: {httpGet: {port: 80}, periodSeconds: 1, failureThreshold: 2}
        livenessProbe: {httpGet: {port: 80}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80}]
---
apiVersion: v1
kind: Pod
metadata: {name: counter}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "i=0; while true; do i=$((i+1)); echo line $i; usleep 5000; done"]
"""

PROBE_POD = """
apiVersion: v1
kind: Pod
metadata: {{name: afterwards-{n}}}
spec:
  terminationGracePeriodSeconds: 0
  nodeSelector: {{kubernetes.io/hostname: {node}}}
  containers:
  - name: main
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sleep, "600"]
"""


@asynccontextmanager
async def undisturbed(space: Space) -> AsyncIterator[None]:
    """Workload, traffic and logs around the body; afterwards, that none of them noticed, and that new pods start."""
    cluster = space.cluster
    await space.apply(WORKLOAD)
    pods = await space.wait_for_pods(lambda pods: len(pods) == 3 and all(map(is_ready, pods)))
    service = await space.client.services.get("web", namespace=space.name)
    url = f"http://{cluster.host(cluster.nodes[0]).address}:{service.spec.ports[0].node_port}/"

    async def serves() -> bool:
        return (await cluster.get_url(url))[0] == 200

    await eventually(serves, "the service answers")
    counted = len((await space.podctl("logs", "counter")).lines)
    traffic = await asyncio.create_subprocess_exec(
        "nsenter",
        f"--net={cluster.host('client').netns}",
        "--",
        sys.executable,
        "-m",
        "tests.e2e.traffic",
        url,
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield
        for n, node in enumerate(cluster.nodes):
            await space.apply(PROBE_POD.format(n=n, node=node))
            await space.wait_for_pod(f"afterwards-{n}", is_ready)
    finally:
        # The end of its input ends it.
        report, _ = await traffic.communicate(b"")
    result = json.loads(report)
    assert result["failures"] == []
    # A part is killed and replaced, and pods are started, in less than a second.
    assert result["fresh"] > 5 and result["kept"] > 5
    after = {pod.metadata.name: pod for pod in await space.pods()}
    for pod in pods:
        now = after[pod.metadata.name]
        assert restarts(now) == 0
        assert is_ready(now)
        assert now.status.container_statuses[0].container_id == pod.status.container_statuses[0].container_id
        transitions = [c.last_transition_time for c in now.status.conditions if c.type == "Ready"]
        assert transitions == [c.last_transition_time for c in pod.status.conditions if c.type == "Ready"]
    lines = (await space.podctl("logs", "counter")).lines
    assert lines == [f"line {n}" for n in range(1, len(lines) + 1)]
    assert len(lines) > counted


def role_pid(cluster: Cluster, role: str) -> int:
    """The process of a control plane's role: a child of the supervisor that the lab started."""
    supervisor = cluster.host("controlplane").pidfile("controlplane").read_text().split()[0]
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    for pid in children:
        if role in Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0"):
            return int(pid)
    raise AssertionError(f"no process of {role} among {children}")


@pytest.mark.parametrize("program", ["agent", "containerd", "logs"])
async def test_a_killed_program_of_a_node_disturbs_nothing(space: Space, program: str) -> None:
    cluster = space.cluster
    async with undisturbed(space):
        for node in cluster.nodes:
            await cluster.lab("kill", f"{cluster.plan.name}/{node}", program)
            await cluster.lab("start", f"{cluster.plan.name}/{node}", program)


async def test_agents_that_stay_away_for_a_minute_disturb_nothing(space: Space) -> None:
    cluster = space.cluster
    # Every node counts as dead meanwhile; that takes nothing from a service that would have nothing left.
    async with undisturbed(space):
        for node in cluster.nodes:
            await cluster.lab("kill", f"{cluster.plan.name}/{node}", "agent")
        await asyncio.sleep(60)
        for node in cluster.nodes:
            await cluster.lab("start", f"{cluster.plan.name}/{node}", "agent")
        await wait_until_nodes_are_ready(cluster)


async def wait_until_nodes_are_ready(cluster: Cluster) -> None:
    await cluster.podctl("wait", "--for=condition=Ready", "node", "--all", "--timeout=60s")


@pytest.mark.parametrize("role", ["api", "scheduler", "controllers"])
async def test_a_killed_role_of_the_control_plane_is_replaced_and_disturbs_nothing(space: Space, role: str) -> None:
    cluster = space.cluster
    async with undisturbed(space):
        killed = role_pid(cluster, role)
        os.kill(killed, signal.SIGKILL)

        async def is_replaced() -> bool:
            await asyncio.sleep(0.1)
            try:
                return role_pid(cluster, role) != killed
            except (AssertionError, FileNotFoundError):
                return False

        await eventually(is_replaced, f"the supervisor starts {role} again")


@pytest.mark.parametrize(("host", "program"), [("controlplane", "controlplane"), ("etcd", "etcd")])
async def test_a_killed_control_plane_or_etcd_disturbs_nothing(space: Space, host: str, program: str) -> None:
    cluster = space.cluster
    async with undisturbed(space):
        await cluster.lab("kill", f"{cluster.plan.name}/{host}", program)
        await cluster.lab("start", f"{cluster.plan.name}/{host}", program)
        await eventually_answers(lambda: cluster.podctl("get", "nodes", check=False))


async def eventually_answers(command: Callable[[], Awaitable[object]]) -> None:
    async def answers() -> bool:
        return getattr(await command(), "code", 1) == 0

    await eventually(answers, "the API answers again")


LEFTOVER = re.compile(r"PODWIRE-(SVC|SEP)")


async def test_after_everything_is_deleted_nothing_of_a_pod_is_left_on_any_node(space: Space) -> None:
    cluster = space.cluster
    before = {node: await traces(cluster, node) for node in cluster.nodes}

    async def left(node: str) -> dict[str, list[str]]:
        # Not compared as a whole: pods of the test before may have been on their way out.
        now = await traces(cluster, node)
        return {kind: more for kind, found in now.items() if (more := sorted({*found}.difference(before[node][kind])))}

    await space.apply(WORKLOAD)
    await space.wait_for_pods(lambda pods: len(pods) == 3 and all(map(is_ready, pods)))
    assert any([await left(node) for node in cluster.nodes])
    await space.podctl("delete", "deployment,service,pod", "--all", "--wait")
    await space.wait_for_pods(lambda pods: pods == [])

    async def is_clean() -> bool:
        return not any([await left(node) for node in cluster.nodes])

    try:
        await eventually(is_clean, "nothing is left")
    except AssertionError:
        for node in cluster.nodes:
            assert await left(node) == {}, node
        raise


async def traces(cluster: Cluster, node: str) -> dict[str, list[str]]:
    """All that pods leave on a node while they run, by kind of trace."""
    host = cluster.host(node)
    ctr = ["ctr", "--address", str(host.run / "containerd" / "containerd.sock"), "--namespace", "k8s.io"]

    async def names(*command: str) -> list[str]:
        return sorted((await cluster.on(node, *command)).lines)

    async def containerd(*command: str) -> list[str]:
        return sorted(line.split()[0] for line in (await cluster.on(node, *ctr, *command)).lines if line.strip())

    rules = (await cluster.on(node, "iptables-save")).stdout
    cgroups = [str(path) for path in Path("/sys/fs/cgroup").glob(f"*{host.cgroup}/**/*") if path.is_dir()]
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return {
        "containers": await containerd("containers", "list", "-q"),
        "tasks": await containerd("tasks", "list", "-q"),
        "leases": await containerd("leases", "list", "-q"),
        "active snapshots": [line for line in await names(*ctr, "snapshots", "list") if "Active" in line],
        "links": sorted(re.findall(r"^\d+: ([^:@]+)", (await cluster.on(node, "ip", "link")).stdout, re.MULTILINE)),
        "rules": sorted(line for line in rules.splitlines() if LEFTOVER.search(line)),
        "cgroups": sorted(cgroups),
        "mounts": sorted(mount for mount in mounts if mount.startswith((str(host.run), str(host.data)))),
        "files": sorted(
            str(path)
            for root in (host.run, host.data)
            for path in root.rglob("*")
            if re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-", str(path)) and "containerd" not in path.parts
        ),
        "shims": sorted(pid for pid in shims(host.run)),
    }


def shims(run: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().decode().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if command[0].endswith("containerd-shim-runc-v2") and any(str(run) in word for word in command):
            found.append(entry.name)
    return found
