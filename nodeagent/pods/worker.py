"""The worker of one pod: looks, plans, carries out the steps, reports; again whenever something changed.

It is woken by a change of the pod's object, of its containers, of a probe's verdict, by a step that ended, or by a
timer for what the plan said becomes due. It never asks in order to find out that something happened. Everything it does
is a task in its own group; a step that fails is remembered with the time of its retry, and the plan leaves it out until
then. `steps.py` has what each step does.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from nodeagent.clock import Timer
from nodeagent.containerd.client import RuntimeUnavailable
from nodeagent.model import ContainerId, ObservedPod, PodUid
from nodeagent.pods import status
from nodeagent.pods.history import last_sandbox
from nodeagent.pods.memory import Memory
from nodeagent.pods.planning import (
    SANDBOX_KEY,
    EnsureImage,
    Step,
    StopContainer,
    Termination,
    grace_period,
    plan,
)
from nodeagent.pods.steps import Steps
from nodeagent.pods.surroundings import Surroundings
from nodeagent.probes.prober import PodProbes
from podwire import v1
from podwire.backoff import Backoff
from podwire.keys import key_of

log = structlog.get_logger(__name__)

# Seconds between looks at containerd while it does not answer.
_LOOK_AGAIN_FIRST: Final = 0.1
_LOOK_AGAIN_CAP: Final = 2.0
_PROGRESS_WAITS: Final = timedelta(milliseconds=200)


@dataclass(slots=True)
class _Operation:
    step: Step
    task: asyncio.Task[None]
    # When a stop will have used up its grace.
    deadline: datetime | None = None


class PodWorker:
    """`observed` is what the agent found of the pod at its start, None where it must be looked up first.

    `reported` is the last status that an agent before this one reported; what it said of running containers holds
    until their probes say otherwise.
    """

    def __init__(
        self,
        pod: v1.Pod,
        surroundings: Surroundings,
        *,
        observed: ObservedPod | None,
        reported: v1.PodStatus | None = None,
    ) -> None:
        self.pod = pod
        self.uid = PodUid(pod.metadata.uid)
        self.key = key_of(pod)
        self.reported = v1.PodStatus() if reported is None else reported
        self.gone = False
        """The object is no longer in the API."""
        self._surroundings = surroundings
        self._memory = Memory(observed or ObservedPod(self.uid, pod.metadata.namespace, pod.metadata.name))
        self._stale = observed is None
        self._known_ready = _readiness(reported)
        self._wake = asyncio.Event()
        self._unsaved = True
        self._look_again = Backoff(_LOOK_AGAIN_FIRST, _LOOK_AGAIN_CAP, uniform=surroundings.uniform)
        self._operations: dict[str, _Operation] = {}
        self._timer: Timer | None = None
        self._held_since: datetime | None = None
        self._back_offs: set[ContainerId] = set()
        self._endings: dict[ContainerId, asyncio.Event] = {}
        self._probes = PodProbes(
            surroundings.asks, surroundings.clock, self._announce_probe, self._wake.set, surroundings.uniform
        )
        self._steps = Steps(surroundings, self._memory)
        self._note_termination()

    @property
    def observed(self) -> ObservedPod:
        return self._memory.observed

    def update(self, pod: v1.Pod) -> None:
        """The API has another version of the pod."""
        self._unsaved = self._unsaved or _matters(self.pod, pod)
        self.pod = pod
        self._note_termination()
        self._wake.set()

    def pod_is_gone(self) -> None:
        """The API has the pod no longer: whatever is left of it here goes."""
        self.gone = True
        self._note_termination()
        self._wake.set()

    def runtime_changed(self) -> None:
        self._stale = True
        self._wake.set()

    def ended(self, container: ContainerId) -> asyncio.Event:
        """Set once that container runs no more."""
        event = self._endings.setdefault(container, asyncio.Event())
        self._note_endings()
        return event

    async def run(self) -> None:
        """Until nothing of the pod is left on the node. After an error it may be called again."""
        try:
            async with asyncio.TaskGroup() as owner:
                while not self._steps.removed:
                    self._wake.clear()
                    await self._turn(owner)
                    if not self._steps.removed:
                        await self._wake.wait()
                self._probes.stop()
            # Here and not in a step, so that no status is saved at the same time.
            await self._surroundings.checkpoints.remove(self.uid)
            log.info("pod removed", pod=self.key)
        finally:
            self._probes.stop()
            self._operations.clear()
            self._set_timer()
            self._stale = True
            if self._steps.removed:
                self._note_endings()

    async def _turn(self, owner: asyncio.TaskGroup) -> None:
        if self._unsaved and not self.gone:
            self._unsaved = False
            await self._surroundings.checkpoints.save(self.pod, self.reported)
        # A sandbox that is being made looks like a lost one; nothing runs meanwhile of which an end could be missed.
        look_again = await self._look() if self._stale and SANDBOX_KEY not in self._operations else None
        now = self._surroundings.clock.now()
        self._note_endings()
        self._follow_probes(owner)
        # Where containerd cannot be asked nothing is done, but probes go on and their verdicts are reported.
        wake_at = look_again or self._act(owner, now)
        self._set_timer(wake_at, await self._report(now))

    def _act(self, owner: asyncio.TaskGroup, now: datetime) -> datetime | None:
        """Begins the steps that are due; when the next becomes due by itself."""
        facts = self._memory.facts(now, self._operations, self._probes.unhealthy, self.reported.phase)
        planned = plan(self.pod, self.observed, facts)
        for step in planned.steps:
            self._begin(owner, step, now)
        if self._memory.termination is not None:
            self._cancel_pulls()
        return planned.wake_at

    async def _look(self) -> datetime | None:
        """Observes the pod; None, or when to try again."""
        while True:
            self._stale = False
            before = self._memory.changes
            try:
                observed = await self._surroundings.runtime.observe_pod(self.uid)
            except RuntimeUnavailable:
                self._stale = True
                return self._surroundings.clock.now() + timedelta(seconds=self._look_again.next())
            if before == self._memory.changes:
                self._look_again.reset()
                self._memory.observed = observed
                return None

    def _begin(self, owner: asyncio.TaskGroup, step: Step, now: datetime) -> None:
        under_way = self._operations.get(step.key)
        deadline = now + timedelta(seconds=step.grace) if isinstance(step, StopContainer) else None
        if under_way is not None:
            # A shorter grace period takes the place of a longer one; a second's difference is only the clock's.
            if deadline and under_way.deadline and deadline + timedelta(seconds=1) < under_way.deadline:
                under_way.task.cancel()
            return
        task = owner.create_task(self._carry_out(step), name=f"{step.key} of {self.key}")
        self._operations[step.key] = _Operation(step, task, deadline)

    async def _carry_out(self, step: Step) -> None:
        try:
            await self._steps.carry_out(self.pod, step, gone=self.gone)
        finally:
            self._operations.pop(step.key, None)
            self._wake.set()

    def _note_endings(self) -> None:
        running = set() if self._steps.removed else {container.id for container in self._memory.running()}
        for container in self._endings.keys() - running:
            self._endings.pop(container).set()

    def _cancel_pulls(self) -> None:
        """A pull may take minutes; nobody waits for it any more."""
        for operation in self._operations.values():
            if isinstance(operation.step, EnsureImage):
                operation.task.cancel()

    def _follow_probes(self, owner: asyncio.TaskGroup) -> None:
        self._probes.follow(
            owner,
            self.pod,
            self._memory.running(),
            self._address(),
            terminating=self._memory.termination is not None,
            known_ready=self._known_ready,
        )

    def _address(self) -> str:
        if self.pod.spec.host_network:
            return self._surroundings.host_ip
        sandbox = last_sandbox(self.observed)
        return sandbox.addresses[0] if sandbox is not None and sandbox.addresses else ""

    async def _report(self, now: datetime) -> datetime | None:
        """Sends the status if it is another than the last one; it is on disk before it is on its way.

        One that says no more than that the pod is on its way up waits a moment for the next: a pod that starts at once
        is one write for the control plane and not three. The answer is when such a status is due, None: none waits.
        """
        sight = status.Sight(
            pod=self.pod,
            observed=self.observed,
            facts=self._memory.facts(now, self._operations, self._probes.unhealthy, self.reported.phase),
            ready=frozenset(c.id for c in self._memory.running() if self._probes.is_ready(c.id)),
            host_ip=self._surroundings.host_ip,
            previous=self.reported,
        )
        new = status.build(sight)
        if new == self.reported or self.gone or self._steps.removed:
            self._held_since = None
            return None
        if status.is_on_its_way_up(new):
            self._held_since = self._held_since or now
            due = self._held_since + _PROGRESS_WAITS
            if now < due:
                return due
        self._held_since = None
        self.reported = new
        await self._surroundings.checkpoints.save(self.pod, new)
        self._surroundings.report(self.pod, new)
        self._announce_back_offs(new)
        return None

    def _announce_back_offs(self, new: v1.PodStatus) -> None:
        for container in (*new.init_container_statuses, *new.container_statuses):
            last = ContainerId(container.container_id)
            if container.state.waiting.reason == status.CRASH_LOOP_BACK_OFF and last not in self._back_offs:
                self._back_offs.add(last)
                text = f"Back-off restarting failed container {container.name} in pod {status.pod_text(self.pod)}"
                self._surroundings.announce(self.pod, "Warning", "BackOff", text, container.name)

    def _announce_probe(self, container: str, kind: str, reason: str, message: str) -> None:
        self._surroundings.announce(self.pod, kind, reason, message, container)

    def _note_termination(self) -> None:
        if not self.gone and not self.pod.metadata.HasField("deletion_timestamp"):
            return
        now = self._surroundings.clock.now()
        deadline = now + timedelta(seconds=grace_period(self.pod))
        before = self._memory.termination
        if before is None or deadline < before.deadline:
            self._memory.termination = Termination(deadline)

    def _set_timer(self, *moments: datetime | None) -> None:
        """Wakes the worker at the first of the moments, instead of any set before."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        when = min((moment for moment in moments if moment is not None), default=None)
        if when is not None:
            wait = max((when - self._surroundings.clock.now()).total_seconds(), 0.0)
            self._timer = self._surroundings.clock.call_later(wait, self._wake.set)


def _matters(old: v1.Pod, new: v1.Pod) -> bool:
    """Whether a checkpoint with `old` would mislead an agent that starts from it."""
    return old.spec != new.spec or old.metadata.deletion_timestamp != new.metadata.deletion_timestamp


def _readiness(reported: v1.PodStatus | None) -> dict[ContainerId, bool]:
    if reported is None:
        return {}
    return {
        ContainerId(container.container_id.removeprefix("containerd://")): container.ready
        for container in reported.container_statuses
        if container.state.HasField("running")
    }
