"""Pods for the tests, and running them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from nodeagent.model import Mount, ObservedContainer, ObservedSandbox, PodUid, Role
from nodeagent.runtime import Runtime
from podwire import v1

IMAGE = "docker.io/library/busybox:latest"
WEB_IMAGE = "docker.io/library/web:1"
QUICK_IMAGE = "docker.io/library/quick:1"


def make_pod(**spec: Any) -> v1.Pod:
    uid = str(uuid.uuid4())
    metadata = v1.ObjectMeta(uid=uid, name=f"pod-{uid[:8]}", namespace="default")
    return v1.Pod(metadata=metadata, spec=v1.PodSpec(**spec))


def uid_of(pod: v1.Pod) -> PodUid:
    return PodUid(pod.metadata.uid)


def shell(script: str, name: str = "app", **fields: Any) -> v1.Container:
    """A container that runs a script."""
    return v1.Container(name=name, command=["sh", "-c", script], **fields)


async def run(
    runtime: Runtime,
    pod: v1.Pod,
    container: v1.Container,
    sandbox: ObservedSandbox,
    *,
    image: str = IMAGE,
    mounts: Sequence[Mount] = (),
    attempt: int = 0,
) -> ObservedContainer:
    """Runs `container` in a sandbox that runs."""
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


async def start(runtime: Runtime, pod: v1.Pod, container: v1.Container, **options: Any) -> ObservedContainer:
    """Runs `container` in a new sandbox."""
    return await run(runtime, pod, container, await runtime.run_sandbox(pod, 0), **options)


async def output(runtime: Runtime, container: ObservedContainer, script: str) -> str:
    """What a script prints in the container."""
    result = await runtime.exec_probe(container, ["sh", "-c", script], 20)
    assert not result.timed_out
    return result.output.decode().strip()


async def eventually(holds: Callable[[], Awaitable[bool]], *, seconds: float = 30) -> None:
    """Returns once `holds`, which is asked again and again; fails after `seconds`."""
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110, what is waited for happens in other processes
            await asyncio.sleep(0.02)
