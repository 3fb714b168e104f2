"""What the agent knows of the pods on its node, as containerd remembers them: plain values, no I/O.

`Runtime` (nodeagent/runtime.py) observes and changes; the pod worker compares these values with the pod's spec. All of
it can be read again from containerd at any time, which is what makes an agent that was killed find its way back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import NewType

PodUid = NewType("PodUid", str)
ContainerId = NewType("ContainerId", str)


class Role(StrEnum):
    """Why a container is in its pod."""

    SANDBOX = "sandbox"
    INIT = "init"
    APP = "app"


class Phase(StrEnum):
    """How far a container is: made but not started (also: killed between the two), running, or over."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container ended. `reason` is Kubernetes' (Completed, Error, OOMKilled, ContainerStatusUnknown, …)."""

    code: int
    finished_at: datetime
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class ObservedContainer:
    """One attempt to run one container of a pod. `attempt` counts from 0 and is the restart count.

    `backoff_seconds` is the delay that came before this attempt: the next one is computed from it, also by an agent
    that has just started.
    """

    id: ContainerId
    pod_uid: PodUid
    role: Role
    name: str
    attempt: int
    spec_hash: str
    phase: Phase
    image: str
    image_id: str
    created_at: datetime
    started_at: datetime | None
    exit: Exit | None
    pid: int
    backoff_seconds: float
    sandbox_attempt: int
    log_path: Path


@dataclass(frozen=True, slots=True)
class ObservedSandbox:
    """A pause container and the namespaces it holds. `addresses` are the pod's, empty with the host's network."""

    id: ContainerId
    pod_uid: PodUid
    attempt: int
    phase: Phase
    addresses: tuple[str, ...]
    created_at: datetime
    pid: int


@dataclass(frozen=True, slots=True)
class ObservedPod:
    """Everything of one pod in containerd: sandboxes and containers of all attempts, oldest first."""

    uid: PodUid
    namespace: str
    name: str
    sandboxes: tuple[ObservedSandbox, ...] = ()
    containers: tuple[ObservedContainer, ...] = ()


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is on the node: its normalized name, its digest, and what its configuration says to run."""

    name: str
    digest: str
    chain_id: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    env: tuple[str, ...]
    working_dir: str
    user: str
    stop_signal: str


@dataclass(frozen=True, slots=True)
class Mount:
    """A bind mount into a container, as the volumes of its pod give it."""

    source: Path
    destination: str
    read_only: bool = False
    propagation: str = "rprivate"
