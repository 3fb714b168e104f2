"""Pods and what containerd has of them, as tests write them down."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from nodeagent.model import (
    ContainerId,
    Exit,
    Image,
    ObservedContainer,
    ObservedPod,
    ObservedSandbox,
    Phase,
    PodUid,
    Role,
)
from nodeagent.pods.hashing import spec_hash
from podwire import v1

UID = PodUid("11111111-2222-3333-4444-555555555555")
START = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
IMAGE = Image(
    name="docker.io/library/nginx:latest",
    digest="sha256:1",
    chain_id="sha256:2",
    entrypoint=("nginx",),
    command=(),
    env=(),
    working_dir="/",
    user="",
    stop_signal="SIGTERM",
)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def container(name: str = "web", image: str = "nginx") -> v1.Container:
    return v1.Container(name=name, image=image, image_pull_policy="IfNotPresent")


def pod(*containers: v1.Container, init: tuple[v1.Container, ...] = (), restart: str = "Always") -> v1.Pod:
    spec = v1.PodSpec(
        containers=containers or (container(),),
        init_containers=init,
        restart_policy=restart,
        termination_grace_period_seconds=30,
        node_name="node1",
    )
    return v1.Pod(metadata=v1.ObjectMeta(name="web", namespace="default", uid=UID, generation=1), spec=spec)


def sandbox(attempt: int = 0, phase: Phase = Phase.RUNNING, created: float = 0) -> ObservedSandbox:
    return ObservedSandbox(ContainerId(f"{UID}-s{attempt}"), UID, attempt, phase, ("10.244.1.2",), at(created), 100)


def attempt(
    name: str = "web",
    number: int = 0,
    phase: Phase = Phase.RUNNING,
    *,
    role: Role = Role.APP,
    code: int | None = None,
    started: float = 0,
    ended: float = 0,
    backoff: float = 0,
    sandbox_attempt: int = 0,
    image: str = "nginx",
) -> ObservedContainer:
    """One attempt of a container; with a `code` it has ended with that."""
    ending = None
    if code is not None:
        phase = Phase.EXITED
        ending = Exit(code, at(ended), "Completed" if code == 0 else "Error")
    return ObservedContainer(
        id=ContainerId(f"{UID}-{name}-{number}"),
        pod_uid=UID,
        role=role,
        name=name,
        attempt=number,
        spec_hash=spec_hash(container(name, image)),
        phase=phase,
        image=IMAGE.name,
        image_id=f"{IMAGE.name}@{IMAGE.digest}",
        created_at=at(started),
        started_at=None if phase is Phase.CREATED else at(started),
        exit=ending,
        pid=0 if ending else 200,
        backoff_seconds=backoff,
        sandbox_attempt=sandbox_attempt,
        log_path=Path(f"/logs/{name}/{number}.log"),
    )


def observed(*parts: ObservedSandbox | ObservedContainer) -> ObservedPod:
    return ObservedPod(
        UID,
        "default",
        "web",
        sandboxes=tuple(part for part in parts if isinstance(part, ObservedSandbox)),
        containers=tuple(part for part in parts if isinstance(part, ObservedContainer)),
    )
