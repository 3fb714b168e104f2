"""What a pod needs next: a pure function of what its object asks for, what containerd has, and a few facts.

The plan is made anew whenever anything changed, and names steps, not a program: whatever an earlier plan began and a
killed agent left half done is visible in what is observed. Steps have keys; those under way (`Facts.busy`) are not
planned again, and steps with different keys run at the same time.

Two rules keep that safe. A sandbox is removed only while nothing runs in it and nothing is being started in it; and a
pod that is to go away is removed only when nothing at all is under way.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from nodeagent.model import ContainerId, Image, ObservedContainer, ObservedPod, ObservedSandbox, Phase, Role
from nodeagent.pods import history
from nodeagent.pods.backoff import Failure, restart_delay
from nodeagent.pods.hashing import spec_hash
from podwire import v1

# The default of the API, for a pod whose object has none (a checkpoint of an older agent).
DEFAULT_GRACE: Final = 30
SANDBOX_KEY: Final = "sandbox"
VOLUMES_KEY: Final = "volumes"
POD_KEY: Final = "pod"
# A pause that dies at once is replaced this long after it was made, and no sooner.
SANDBOX_INTERVAL: Final = timedelta(seconds=10)
# How long ErrImagePull is shown before it becomes ImagePullBackOff; Kubernetes' next look at the pod makes that change.
FRESH_FAILURE: Final = timedelta(seconds=1)


class StopReason(StrEnum):
    """Why a container is stopped; what its Killing event says."""

    DELETED = "Stopping container {name}"
    UNHEALTHY = "Container {name} failed liveness probe"
    CHANGED = "Container {name} definition changed"
    SANDBOX_LOST = "Container {name} lost its sandbox"


@dataclass(frozen=True, slots=True)
class Start:
    """One attempt to run a container, in one sandbox; `backoff_seconds` is the wait that came before it."""

    name: str
    role: Role
    attempt: int
    sandbox_attempt: int
    backoff_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class RunSandbox:
    attempt: int

    @property
    def key(self) -> str:
        return SANDBOX_KEY


@dataclass(frozen=True, slots=True)
class RemoveSandbox:
    sandbox: ObservedSandbox

    @property
    def key(self) -> str:
        return SANDBOX_KEY


@dataclass(frozen=True, slots=True)
class PrepareVolumes:
    @property
    def key(self) -> str:
        return VOLUMES_KEY


@dataclass(frozen=True, slots=True)
class EnsureImage:
    """The image for the next start of a container: its pull policy is asked each time."""

    name: str

    @property
    def key(self) -> str:
        return image_key(self.name)


@dataclass(frozen=True, slots=True)
class PrepareContainer:
    """What of a start needs no sandbox (record, file system, pipes), done while the sandbox is made."""

    start: Start

    @property
    def key(self) -> str:
        return container_key(self.start.name)


@dataclass(frozen=True, slots=True)
class StartContainer:
    """The start, with its preparation where that was not done before."""

    start: Start

    @property
    def key(self) -> str:
        return container_key(self.start.name)


@dataclass(frozen=True, slots=True)
class StopContainer:
    """Planned also while an earlier stop is under way: the shorter grace (seconds) wins."""

    container: ObservedContainer
    grace: float
    reason: StopReason

    @property
    def key(self) -> str:
        return container_key(self.container.name)


@dataclass(frozen=True, slots=True)
class RemoveContainer:
    container: ObservedContainer

    @property
    def key(self) -> str:
        return f"remove/{self.container.id}"


@dataclass(frozen=True, slots=True)
class RemovePod:
    @property
    def key(self) -> str:
        return POD_KEY


Step = (
    RunSandbox
    | RemoveSandbox
    | PrepareVolumes
    | EnsureImage
    | PrepareContainer
    | StartContainer
    | StopContainer
    | RemoveContainer
    | RemovePod
)


def image_key(name: str) -> str:
    return f"image/{name}"


def container_key(name: str) -> str:
    return f"container/{name}"


@dataclass(frozen=True, slots=True)
class Termination:
    """The pod is to go away; its containers have until `deadline` to end by themselves."""

    deadline: datetime


@dataclass(frozen=True, slots=True)
class Facts:
    """What the plan needs to know beyond the pod and containerd."""

    now: datetime
    # Keys of the steps under way.
    busy: Collection[str] = ()
    # By container's name: the image for its next start.
    images: Mapping[str, Image] = field(default_factory=dict)
    volumes_ready: bool = False
    # Starts that only wait for their sandbox.
    prepared: Collection[Start] = ()
    # By key: the last failure of a step that has not succeeded since.
    failures: Mapping[str, Failure] = field(default_factory=dict)
    # Containers whose liveness probe has failed.
    unhealthy: Collection[ContainerId] = ()
    # Containers that the agent ended in order to start them again.
    replaced: Collection[ContainerId] = ()
    termination: Termination | None = None
    # The phase that was reported last.
    reported_phase: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """`wake_at` is when something becomes due that no event will announce."""

    steps: tuple[Step, ...]
    wake_at: datetime | None = None


def grace_period(pod: v1.Pod) -> int:
    """Seconds that the pod's containers get between SIGTERM and SIGKILL."""
    if pod.metadata.HasField("deletion_grace_period_seconds"):
        return pod.metadata.deletion_grace_period_seconds
    if pod.spec.HasField("termination_grace_period_seconds"):
        return pod.spec.termination_grace_period_seconds
    return DEFAULT_GRACE


def plan(pod: v1.Pod, observed: ObservedPod, facts: Facts) -> Plan:
    planner = _Planner(pod, observed, facts)
    if facts.termination is not None:
        planner.terminate(facts.termination)
    elif history.outcome(pod, observed, replaced=facts.replaced, reported_phase=facts.reported_phase) is not None:
        planner.wind_up()
    else:
        planner.run()
    return Plan(tuple(planner.steps), min(planner.due, default=None))


class _Planner:
    def __init__(self, pod: v1.Pod, observed: ObservedPod, facts: Facts) -> None:
        self.pod = pod
        self.observed = observed
        self.facts = facts
        self.last = history.last_attempts(observed)
        self.steps: list[Step] = []
        self.due: list[datetime] = []
        self._sandbox_runs = False

    def terminate(self, termination: Termination) -> None:
        grace = max((termination.deadline - self.facts.now).total_seconds(), 0.0)
        if self._stop_all(grace, StopReason.DELETED) and not self.facts.busy:
            self._add(RemovePod())

    def wind_up(self) -> None:
        """The pod has ended: its network is given back; the last containers stay for their logs."""
        if self._stop_all(grace_period(self.pod), StopReason.DELETED):
            self._remove_sandboxes(self.observed.sandboxes)
        self._remove_old_attempts()

    def run(self) -> None:
        self._remove_old_attempts()
        sandbox = history.last_sandbox(self.observed)
        if sandbox is not None and sandbox.phase is Phase.EXITED:
            # Whatever ran in it has lost its namespaces' keeper: it goes too, and its end counts as a restart.
            if self._stop_all(0.0, StopReason.SANDBOX_LOST) and self._may_replace(sandbox):
                self._remove_sandboxes(self.observed.sandboxes)
            return
        if sandbox is None:
            attempt = history.next_sandbox_attempt(self.observed)
            self._add(RunSandbox(attempt))
        else:
            attempt = sandbox.attempt
            self._remove_older(sandbox)
            if sandbox.phase is Phase.CREATED:
                self._add(RunSandbox(attempt))
        self._sandbox_runs = sandbox is not None and sandbox.phase is Phase.RUNNING
        for container, role in self._wanted(attempt):
            self._advance(container, role, attempt)

    def _wanted(self, sandbox_attempt: int) -> list[tuple[v1.Container, Role]]:
        """The containers whose turn it is: the first init container that is not done, or all app containers."""
        if not history.initialized(self.pod, self.observed, sandbox_attempt):
            for init in self.pod.spec.init_containers:
                if not history.init_done(self.last.get(init.name), sandbox_attempt):
                    return [(init, Role.INIT)]
        return [(container, Role.APP) for container in self.pod.spec.containers]

    def _advance(self, container: v1.Container, role: Role, sandbox_attempt: int) -> None:
        last = self.last.get(container.name)
        if last is None:
            self._start(Start(container.name, role, 0, sandbox_attempt))
        elif last.phase is Phase.RUNNING:
            self._keep_running(container, last, sandbox_attempt)
        elif last.exit is None:
            # Made and never started: a killed agent's work is taken up where it was left.
            self._start(Start(container.name, role, last.attempt, sandbox_attempt, last.backoff_seconds))
        elif role is Role.INIT or history.starts_again(self.pod, last, last.exit, self.facts.replaced):
            delay = restart_delay(last)
            if self._is_due(last.exit.finished_at + timedelta(seconds=delay)):
                self._start(Start(container.name, role, last.attempt + 1, sandbox_attempt, delay))

    def _keep_running(self, container: v1.Container, running: ObservedContainer, sandbox_attempt: int) -> None:
        if running.sandbox_attempt != sandbox_attempt:
            self._add(StopContainer(running, 0.0, StopReason.SANDBOX_LOST))
        elif running.spec_hash != spec_hash(container):
            self._add(StopContainer(running, grace_period(self.pod), StopReason.CHANGED))
        elif running.id in self.facts.unhealthy:
            grace = grace_period(self.pod)
            if container.liveness_probe.HasField("termination_grace_period_seconds"):
                grace = container.liveness_probe.termination_grace_period_seconds
            self._add(StopContainer(running, grace, StopReason.UNHEALTHY))

    def _start(self, start: Start) -> None:
        """Image, volumes and preparation do not wait for the sandbox; only the start does."""
        if container_key(start.name) in self.facts.busy:
            # It is being prepared or started with the image it had.
            return
        if not self.facts.volumes_ready:
            self._add(PrepareVolumes())
        if start in self.facts.prepared:
            if self._sandbox_runs:
                self._add(StartContainer(start))
        elif start.name not in self.facts.images:
            self._add(EnsureImage(start.name))
        elif self.facts.volumes_ready:
            self._add(StartContainer(start) if self._sandbox_runs else PrepareContainer(start))

    def _stop_all(self, grace: float, reason: StopReason) -> bool:
        """Stops what runs; whether nothing runs and no container is being started or stopped."""
        running = [container for container in self.observed.containers if container.phase is Phase.RUNNING]
        for container in running:
            self._add(StopContainer(container, grace, reason))
        return not running and not any(key.startswith("container/") for key in self.facts.busy)

    def _remove_sandboxes(self, sandboxes: Collection[ObservedSandbox]) -> None:
        if sandboxes:
            self._add(RemoveSandbox(min(sandboxes, key=lambda sandbox: sandbox.attempt)))

    def _remove_older(self, current: ObservedSandbox) -> None:
        """Sandboxes before the current one: a killed agent may have left them."""
        kept = {container.sandbox_attempt for container in self.observed.containers if container.phase is Phase.RUNNING}
        older = [s for s in self.observed.sandboxes if s.attempt < current.attempt and s.attempt not in kept]
        self._remove_sandboxes(older)

    def _remove_old_attempts(self) -> None:
        """One ended attempt of each container stays: for its log, and for lastState."""
        ended = sorted((c for c in self.observed.containers if c.phase is Phase.EXITED), key=lambda c: c.attempt)
        newest = {container.name: container.id for container in ended}
        for container in ended:
            if container.id != newest[container.name]:
                self._add(RemoveContainer(container))

    def _may_replace(self, lost: ObservedSandbox) -> bool:
        """The first loss is made good at once; a pause that keeps dying is not to keep the node busy."""
        return lost.attempt == 0 or self._is_due(lost.created_at + SANDBOX_INTERVAL)

    def _may_retry(self, key: str) -> bool:
        failure = self.facts.failures.get(key)
        if failure is None:
            return True
        if self.facts.now < failure.at + FRESH_FAILURE:
            self.due.append(failure.at + FRESH_FAILURE)
        return self._is_due(failure.retry_at)

    def _is_due(self, when: datetime) -> bool:
        if when <= self.facts.now:
            return True
        self.due.append(when)
        return False

    def _add(self, step: Step) -> None:
        if step.key in self.facts.busy and not isinstance(step, StopContainer):
            return
        if self._may_retry(step.key):
            self.steps.append(step)
