"""The status of a pod, as Kubernetes would report it: a pure function of the pod, containerd, and the worker's facts.

Reasons, messages and the rules of phase and conditions are Kubernetes' (kubelet, pkg/kubelet/status/generate.go and
kubelet_pods.go), because people and programs read them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from nodeagent.model import ContainerId, ObservedContainer, ObservedPod, Phase
from nodeagent.pods import history
from nodeagent.pods.backoff import Failure, restart_delay
from nodeagent.pods.planning import (
    FRESH_FAILURE,
    SANDBOX_KEY,
    VOLUMES_KEY,
    Facts,
    container_key,
    image_key,
)
from podwire import v1

READY_TO_START: Final = "PodReadyToStartContainers"
INITIALIZED: Final = "Initialized"
READY: Final = "Ready"
CONTAINERS_READY: Final = "ContainersReady"
# The agent's conditions; the API keeps what others write beside them (PodScheduled, readiness gates).
OURS: Final = frozenset({READY_TO_START, INITIALIZED, READY, CONTAINERS_READY})
ERR_IMAGE_PULL: Final = "ErrImagePull"
IMAGE_PULL_BACK_OFF: Final = "ImagePullBackOff"
CRASH_LOOP_BACK_OFF: Final = "CrashLoopBackOff"


def pod_text(pod: v1.Pod) -> str:
    """How Kubernetes names a pod within messages."""
    return f"{pod.metadata.name}_{pod.metadata.namespace}({pod.metadata.uid})"


def back_off_text(pod: v1.Pod, name: str, delay: float) -> str:
    return f"back-off {_duration(delay)} restarting failed container={name} pod={pod_text(pod)}"


@dataclass(frozen=True, slots=True)
class Sight:
    """What the status is made from. `ready` are the running containers that answer their readiness probe or have none.

    `previous` is the status that was reported last: times of unchanged conditions come from it, and what has no other
    memory (startTime, the last state of a container whose earlier attempt is removed).
    """

    pod: v1.Pod
    observed: ObservedPod
    facts: Facts
    ready: Collection[ContainerId]
    host_ip: str
    previous: v1.PodStatus


def build(sight: Sight) -> v1.PodStatus:
    pod, observed = sight.pod, sight.observed
    status = v1.PodStatus(host_ip=sight.host_ip, qos_class=qos_class(pod))
    status.observed_generation = pod.metadata.generation
    status.host_ips.add(ip=sight.host_ip)
    started = sight.previous.start_time if sight.previous.HasField("start_time") else _time(sight.facts.now)
    status.start_time.CopyFrom(started)
    sandbox = history.last_sandbox(observed)
    has_sandbox = sandbox is not None and sandbox.phase is Phase.RUNNING
    if pod.spec.host_network:
        addresses: tuple[str, ...] = (sight.host_ip,)
    else:
        addresses = sandbox.addresses if sandbox is not None and has_sandbox else ()
    for address in addresses:
        status.pod_ips.add(ip=address)
    status.pod_ip = addresses[0] if addresses else ""

    ended = history.outcome(pod, observed, replaced=sight.facts.replaced, reported_phase=sight.previous.phase)
    attempt = history.next_sandbox_attempt(observed) if sandbox is None else sandbox.attempt
    if sandbox is None and ended:
        # A pod that is over has given its sandbox back, and waits for no other.
        attempt -= 1
    is_initialized = history.initialized(pod, observed, attempt)
    # Nothing holds back what is not to start any more.
    turn = "" if ended else _turn(pod, observed, attempt, is_initialized)
    apps_turn = is_initialized and not ended
    last = history.last_attempts(observed)
    for init in pod.spec.init_containers:
        status.init_container_statuses.append(
            _container(sight, init, last.get(init.name), init.name == turn, init=True)
        )
    for app in pod.spec.containers:
        status.container_statuses.append(_container(sight, app, last.get(app.name), apps_turn, init=False))

    status.phase = ended or _phase(sight, status, is_initialized)
    _conditions(sight, status, has_sandbox, is_initialized)
    return status


def is_on_its_way_up(status: v1.PodStatus) -> bool:
    """Whether the pod is starting and nothing is worth telling yet."""
    return status.phase == "Pending" and all(
        not container.state.HasField("waiting")
        or container.state.waiting.reason in ("ContainerCreating", "PodInitializing")
        for container in (*status.init_container_statuses, *status.container_statuses)
    )


def own_part(stored: v1.PodStatus) -> v1.PodStatus:
    """Of a status in the API what an agent reports: without the conditions that others wrote."""
    ours = v1.PodStatus()
    ours.CopyFrom(stored)
    del ours.conditions[:]
    ours.conditions.extend(condition for condition in stored.conditions if condition.type in OURS)
    return ours


def qos_class(pod: v1.Pod) -> str:
    """Guaranteed: every container's limits and requests of cpu and memory are set and equal; BestEffort: none is."""
    containers = [*pod.spec.init_containers, *pod.spec.containers]
    guaranteed = True
    any_set = False
    for container in containers:
        limits, requests = container.resources.limits, container.resources.requests
        for resource in ("cpu", "memory"):
            limit = limits[resource].string if resource in limits else ""
            request = requests[resource].string if resource in requests else limit
            any_set = any_set or bool(limit or request)
            guaranteed = guaranteed and bool(limit) and limit == request
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def _turn(pod: v1.Pod, observed: ObservedPod, sandbox_attempt: int, is_initialized: bool) -> str:
    """The init container that is next or runs; empty where all are done."""
    if is_initialized:
        return ""
    last = history.last_attempts(observed)
    return next(i.name for i in pod.spec.init_containers if not history.init_done(last.get(i.name), sandbox_attempt))


def _container(
    sight: Sight, container: v1.Container, last: ObservedContainer | None, its_turn: bool, *, init: bool
) -> v1.ContainerStatus:
    status = v1.ContainerStatus(name=container.name, image=container.image, restart_count=0, ready=False, started=False)
    before = _previous(sight.previous, container.name)
    if last is None and before is not None and before.state.HasField("terminated"):
        # containerd has it no longer, as what never started; how it ended stays known.
        return before
    ending = None
    if last is not None:
        status.restart_count = last.attempt
        status.image = last.image
        status.image_id = last.image_id
        status.container_id = f"containerd://{last.id}"
        ending = _terminated(last)
        earlier = history.previous_attempt(sight.observed, container.name)
        if earlier is not None:
            status.last_state.terminated.CopyFrom(_terminated(earlier) or v1.ContainerStateTerminated())
        elif (
            before is not None
            and before.container_id == status.container_id
            and before.last_state.HasField("terminated")
        ):
            status.last_state.CopyFrom(before.last_state)
    if last is not None and last.phase is Phase.RUNNING:
        status.state.running.started_at.CopyFrom(_time(last.started_at or last.created_at))
        status.started = True
        status.ready = last.id in sight.ready
        return status
    waiting = _waiting(sight, container, last, its_turn)
    if waiting is None and ending is not None:
        status.state.terminated.CopyFrom(ending)
        status.ready = init and ending.exit_code == 0
        return status
    status.state.waiting.CopyFrom(waiting or v1.ContainerStateWaiting(reason=_default_reason(sight.pod)))
    if ending is not None:
        status.last_state.terminated.CopyFrom(ending)
    return status


def _waiting(
    sight: Sight, container: v1.Container, last: ObservedContainer | None, its_turn: bool
) -> v1.ContainerStateWaiting | None:
    """Why a container that should start does not run yet; None: nothing is known that keeps it."""
    if not its_turn or sight.facts.termination is not None:
        return None
    facts = sight.facts
    for key in (image_key(container.name), container_key(container.name), VOLUMES_KEY):
        failure = facts.failures.get(key)
        if failure is not None and (last is None or last.phase is not Phase.RUNNING):
            if key == VOLUMES_KEY and failure.reason != "CreateContainerConfigError":
                continue
            return _failure(failure, container, facts.now)
    if last is None or last.exit is None or SANDBOX_KEY in facts.failures:
        return None
    if not history.starts_again(sight.pod, last, last.exit, facts.replaced):
        return None
    delay = restart_delay(last)
    due = last.exit.finished_at + timedelta(seconds=delay)
    if facts.now >= due:
        return None
    waiting = v1.ContainerStateWaiting(
        reason=CRASH_LOOP_BACK_OFF, message=back_off_text(sight.pod, container.name, delay)
    )
    waiting.next_start_time.CopyFrom(_time(due))
    return waiting


def _failure(failure: Failure, container: v1.Container, now: datetime) -> v1.ContainerStateWaiting:
    if failure.reason != ERR_IMAGE_PULL or now < failure.at + FRESH_FAILURE:
        return v1.ContainerStateWaiting(reason=failure.reason, message=failure.message)
    waiting = v1.ContainerStateWaiting(
        reason=IMAGE_PULL_BACK_OFF, message=f'Back-off pulling image "{container.image}": {failure.message}'
    )
    waiting.next_start_time.CopyFrom(_time(failure.retry_at))
    return waiting


def _default_reason(pod: v1.Pod) -> str:
    return "PodInitializing" if pod.spec.init_containers else "ContainerCreating"


def _terminated(container: ObservedContainer) -> v1.ContainerStateTerminated | None:
    if container.exit is None:
        return None
    ended = v1.ContainerStateTerminated(
        exit_code=container.exit.code,
        reason=container.exit.reason,
        message=container.exit.message,
        container_id=f"containerd://{container.id}",
    )
    ended.finished_at.CopyFrom(_time(container.exit.finished_at))
    if container.started_at is not None:
        ended.started_at.CopyFrom(_time(container.started_at))
    return ended


def _previous(status: v1.PodStatus, name: str) -> v1.ContainerStatus | None:
    for container in (*status.container_statuses, *status.init_container_statuses):
        if container.name == name:
            return container
    return None


def _phase(sight: Sight, status: v1.PodStatus, is_initialized: bool) -> str:
    if not is_initialized:
        return "Pending"
    states = status.container_statuses
    if sight.facts.termination is not None and all(s.state.HasField("terminated") for s in states):
        failed = any(s.state.terminated.exit_code for s in states)
        return history.Outcome.FAILED if failed else history.Outcome.SUCCEEDED
    if any(s.state.HasField("waiting") and not s.last_state.HasField("terminated") for s in states):
        return "Pending"
    return "Running"


def _conditions(sight: Sight, status: v1.PodStatus, has_sandbox: bool, is_initialized: bool) -> None:
    pod = sight.pod
    unready = [s.name for s in status.container_statuses if not s.ready]
    not_ready = ("", "")
    if status.phase == history.Outcome.SUCCEEDED:
        not_ready = ("PodCompleted", "")
    elif status.phase == history.Outcome.FAILED:
        not_ready = ("PodFailed", "")
    elif unready:
        not_ready = ("ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
    gates = not_ready if not_ready[0] else _gates(pod)

    incomplete = [s.name for s in status.init_container_statuses if not s.ready]
    uninitialized = ("", "")
    if status.phase == history.Outcome.SUCCEEDED:
        uninitialized = ("PodCompleted", "")
    elif not is_initialized:
        uninitialized = ("ContainersNotInitialized", f"containers with incomplete status: [{' '.join(incomplete)}]")
    initialized = is_initialized or status.phase == history.Outcome.SUCCEEDED

    _condition(sight, status, READY_TO_START, has_sandbox)
    _condition(sight, status, INITIALIZED, initialized, *uninitialized)
    _condition(sight, status, READY, not gates[0], *gates)
    _condition(sight, status, CONTAINERS_READY, not not_ready[0], *not_ready)


def _gates(pod: v1.Pod) -> tuple[str, str]:
    """Reason and message of the first readiness gate that holds the pod back."""
    for gate in pod.spec.readiness_gates:
        condition = _find(pod.status.conditions, gate.condition_type)
        if condition is None:
            return (
                "ReadinessGatesNotReady",
                f'corresponding condition of pod readiness gate "{gate.condition_type}" does not exist.',
            )
        if condition.status != "True":
            return (
                "ReadinessGatesNotReady",
                f'the status of pod readiness gate "{gate.condition_type}" is not "True", but {condition.status}',
            )
    return ("", "")


def _condition(sight: Sight, status: v1.PodStatus, kind: str, holds: bool, reason: str = "", message: str = "") -> None:
    condition = v1.PodCondition(type=kind, status="True" if holds else "False", reason=reason, message=message)
    before = _find(sight.previous.conditions, kind)
    if before is not None and before.status == condition.status and before.HasField("last_transition_time"):
        condition.last_transition_time.CopyFrom(before.last_transition_time)
    else:
        condition.last_transition_time.CopyFrom(_time(sight.facts.now))
    status.conditions.append(condition)


def _find(conditions: Iterable[v1.PodCondition], kind: str) -> v1.PodCondition | None:
    return next((condition for condition in conditions if condition.type == kind), None)


def _time(when: datetime) -> Timestamp:
    """Whole seconds, as all times of Kubernetes' API."""
    return Timestamp(seconds=int(when.timestamp()))


def _duration(seconds: float) -> str:
    """As Go prints it: 10s, 1m20s, 5m0s."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
