"""Sandboxes and containers in a real containerd."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence

from nodeagent.model import Mount, ObservedContainer, ObservedSandbox, Phase, PodUid, Role
from nodeagent.runtime import Runtime
from podwire import v1
from tests.integration.nodeagent.runtime.conftest import IMAGE, Node


def make_pod(**spec: object) -> v1.Pod:
    uid = str(uuid.uuid4())
    return v1.Pod(
        metadata=v1.ObjectMeta(uid=uid, name=f"pod-{uid[:8]}", namespace="default"),
        spec=v1.PodSpec(**spec),  # type: ignore[arg-type]
    )


async def run(
    runtime: Runtime, pod: v1.Pod, container: v1.Container, sandbox: ObservedSandbox, *, image: str = IMAGE,
    mounts: Sequence[Mount] = (), attempt: int = 0,
) -> ObservedContainer:  # fmt: skip
    return await runtime.run_container(
        pod,
        container,
        Role.APP,
        attempt,
        sandbox=sandbox,
        image=await runtime.ensure_image(image, "Never", pulling=lambda: None),
        mounts=mounts,
        env=[(entry.name, entry.value) for entry in container.env],
        backoff_seconds=0,
    )


async def test_a_pod_runs_and_nothing_of_it_is_left_when_it_is_removed(runtime: Runtime, node: Node) -> None:
    pod = make_pod()
    uid = PodUid(pod.metadata.uid)
    sandbox = await runtime.run_sandbox(pod, 0)
    assert sandbox.addresses == ("10.244.9.7",)
    started = await run(runtime, pod, v1.Container(name="app", command=["sh", "-c", "echo hello; sleep 1000"]), sandbox)
    result = await runtime.exec_probe(started, ["hostname"], 5)
    assert (result.exit_code, result.output.decode().strip()) == (0, pod.metadata.name)
    observed = await runtime.observe_pod(uid)
    assert [c.phase for c in observed.containers] == [Phase.RUNNING]
    assert observed.sandboxes[0].addresses == ("10.244.9.7",)
    exit = await runtime.stop_container(started, grace=0)
    assert exit.code == 137
    await runtime.remove_pod(uid, "default", pod.metadata.name)
    assert (await runtime.observe_pod(uid)).containers == ()
    assert node.mounts() == []
    assert node.connected() == set()
    await asyncio.sleep(0)
