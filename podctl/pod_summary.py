"""The one word for a pod's state, and its counts, as `kubectl get pods` has them (printPod in k/k's printers.go)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from podctl.durations import age, is_set
from podwire import v1


@dataclass(frozen=True, slots=True)
class PodSummary:
    ready: int
    containers: int
    status: str
    restarts: str


def summarise(pod: v1.Pod, now: float) -> PodSummary:
    """`now` in seconds since 1970, for the time since the last restart."""
    spec, status = pod.spec, pod.status
    sidecars = {container.name for container in spec.init_containers if container.restart_policy == "Always"}
    reason = status.reason or status.phase
    init_reason = _init_reason(pod, sidecars)
    counted: Iterable[v1.ContainerStatus] = status.init_container_statuses
    running = [s for s in status.init_container_statuses if s.name in sidecars and s.started and s.ready]
    if init_reason is not None:
        reason = init_reason
    if init_reason is None or _condition(status, "Initialized"):
        sidecar_statuses = [s for s in status.init_container_statuses if s.name in sidecars]
        counted = [*sidecar_statuses, *status.container_statuses]
        ready = [s for s in status.container_statuses if s.ready and s.state.HasField("running")]
        running += ready
        # The first container has the last word.
        for container in reversed(status.container_statuses):
            reason = _container_reason(container.state) or reason
        if reason == "Completed" and ready:
            # A container that has ended beside one that runs does not end the pod.
            reason = "Running" if _condition(status, "Ready") else "NotReady"
    if is_set(pod.metadata.deletion_timestamp):
        if status.reason == "NodeLost":
            reason = "Unknown"
        elif status.phase not in ("Succeeded", "Failed"):
            reason = "Terminating"
    return PodSummary(len(running), len(spec.containers) + len(sidecars), reason, _restarts(counted, now))


def _init_reason(pod: v1.Pod, sidecars: set[str]) -> str | None:
    """What the first init container that is not done is about; None when all are."""
    for index, container in enumerate(pod.status.init_container_statuses):
        state = container.state
        if state.HasField("terminated"):
            if not state.terminated.exit_code:
                continue
            return f"Init:{_container_reason(state)}"
        if container.name in sidecars and container.started:
            continue
        if state.waiting.reason not in ("", "PodInitializing"):
            return f"Init:{state.waiting.reason}"
        return f"Init:{index}/{len(pod.spec.init_containers)}"
    return None


def _container_reason(state: v1.ContainerState) -> str:
    if state.waiting.reason:
        return state.waiting.reason
    if not state.HasField("terminated"):
        return ""
    ended = state.terminated
    return ended.reason or (f"Signal:{ended.signal}" if ended.signal else f"ExitCode:{ended.exit_code}")


def _restarts(statuses: Iterable[v1.ContainerStatus], now: float) -> str:
    """`3 (5s ago)`."""
    counted = list(statuses)
    count = sum(container.restart_count for container in counted)
    ends = [s.last_state.terminated.finished_at for s in counted if s.last_state.HasField("terminated")]
    ends = [end for end in ends if is_set(end)]
    if not count or not ends:
        return str(count)
    return f"{count} ({age(max(ends, key=lambda end: end.ToNanoseconds()), now)} ago)"


def _condition(status: v1.PodStatus, type_: str) -> bool:
    return any(condition.type == type_ and condition.status == "True" for condition in status.conditions)
