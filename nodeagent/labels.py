"""How containers and sandboxes are called in containerd, and what their labels say: the agent's memory."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from nodeagent.model import ContainerId, Exit, ObservedContainer, ObservedSandbox, Phase, PodUid, Role

POD_UID: Final = "podwire.io/pod-uid"
POD_NAMESPACE: Final = "podwire.io/pod-namespace"
POD_NAME: Final = "podwire.io/pod-name"
ROLE: Final = "podwire.io/role"
CONTAINER: Final = "podwire.io/container"
ATTEMPT: Final = "podwire.io/attempt"
SPEC_HASH: Final = "podwire.io/spec-hash"
IMAGE: Final = "podwire.io/image"
IMAGE_ID: Final = "podwire.io/image-id"
BACKOFF: Final = "podwire.io/backoff-seconds"
SANDBOX_ATTEMPT: Final = "podwire.io/sandbox-attempt"
LOG_PATH: Final = "podwire.io/log-path"
STOP_SIGNAL: Final = "podwire.io/stop-signal"
ADDRESSES: Final = "podwire.io/addresses"
STARTED_AT: Final = "podwire.io/started-at"
EXIT_CODE: Final = "podwire.io/exit-code"
EXIT_AT: Final = "podwire.io/exit-at"
EXIT_REASON: Final = "podwire.io/exit-reason"
EXIT_MESSAGE: Final = "podwire.io/exit-message"


def nonce() -> str:
    """What tells one try to run an attempt from another (see nodeagent/register.py)."""
    return secrets.token_hex(4)


def sandbox_id(uid: PodUid, attempt: int, nonce: str) -> ContainerId:
    return ContainerId(f"{uid}-s{attempt}-{nonce}")


def container_id(uid: PodUid, name: str, attempt: int, nonce: str) -> ContainerId:
    """At most 76 characters, containerd's limit, whatever the container's name."""
    return ContainerId(f"{uid}-{hashlib.sha256(name.encode()).hexdigest()[:8]}-{attempt}-{nonce}")


def pod_of_sandbox(id: str) -> PodUid:
    """The pod whose sandbox is called `id`."""
    return PodUid(id.rsplit("-", 2)[0])


def pod_of_container(id: str) -> PodUid:
    """The pod whose container is called `id`."""
    return PodUid(id.rsplit("-", 3)[0])


def selector(uid: PodUid | None = None) -> str:
    """The filter, in containerd's language, that finds the records of a pod, or of all pods."""
    return f'labels."{POD_UID}"' if uid is None else f'labels."{POD_UID}"=="{uid}"'


def exit_labels(exit: Exit) -> dict[str, str]:
    """The labels that keep `exit` after its task is deleted."""
    return {
        EXIT_CODE: str(exit.code),
        EXIT_AT: exit.finished_at.isoformat(),
        EXIT_REASON: exit.reason,
        EXIT_MESSAGE: exit.message,
    }


def exit_of(labels: Mapping[str, str]) -> Exit | None:
    """How the container ended, where that is written down."""
    if EXIT_CODE not in labels:
        return None
    return Exit(
        code=int(labels[EXIT_CODE]),
        finished_at=datetime.fromisoformat(labels[EXIT_AT]),
        reason=labels[EXIT_REASON],
        message=labels.get(EXIT_MESSAGE, ""),
    )


def started_at(labels: Mapping[str, str]) -> datetime | None:
    """When the container was started, where that is written down."""
    text = labels.get(STARTED_AT)
    return datetime.fromisoformat(text) if text else None


def now() -> datetime:
    return datetime.now(UTC)


def observed_sandbox(
    id: str, labels: Mapping[str, str], *, phase: Phase, created_at: datetime, pid: int
) -> ObservedSandbox:
    """The sandbox that these labels describe."""
    return ObservedSandbox(
        id=ContainerId(id),
        pod_uid=PodUid(labels[POD_UID]),
        attempt=int(labels[ATTEMPT]),
        phase=phase,
        addresses=tuple(labels.get(ADDRESSES, "").split()),
        created_at=created_at,
        pid=pid,
    )


def observed_container(
    id: str, labels: Mapping[str, str], *, phase: Phase, created_at: datetime, pid: int, exit: Exit | None
) -> ObservedContainer:
    """The container that these labels describe."""
    started = started_at(labels)
    return ObservedContainer(
        id=ContainerId(id),
        pod_uid=PodUid(labels[POD_UID]),
        role=Role(labels[ROLE]),
        name=labels[CONTAINER],
        attempt=int(labels[ATTEMPT]),
        spec_hash=labels[SPEC_HASH],
        phase=phase,
        image=labels[IMAGE],
        image_id=labels[IMAGE_ID],
        created_at=created_at,
        # A killed agent may not have written it down; the record is made a moment before the start.
        started_at=None if phase is Phase.CREATED else started or created_at,
        exit=exit,
        pid=pid,
        backoff_seconds=float(labels[BACKOFF]),
        sandbox_attempt=int(labels[SANDBOX_ATTEMPT]),
        log_path=Path(labels[LOG_PATH]),
    )
