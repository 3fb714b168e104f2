"""The probes of one pod's running containers: a task for each, and what their answers amount to.

The tasks belong to the pod's worker, which calls `follow` whenever it has looked at its containers and is told when a
verdict changed. Probes run on a fixed schedule from the container's start; one that takes longer than its period skips
the turns it missed.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from nodeagent.clock import Clock
from nodeagent.model import ContainerId, ObservedContainer
from nodeagent.probes import verdicts
from nodeagent.probes.verdicts import Answer, Kind, Result, Verdict
from podwire import v1


class Asks(Protocol):
    """What puts a probe's question; `probes.actions.Actions` does."""

    async def ask(
        self, probe: v1.Probe, container: v1.Container, running: ObservedContainer, address: str
    ) -> Answer: ...


class Reports(Protocol):
    """Where a probe's failures become events: (container, type, reason, message)."""

    def __call__(self, container: str, kind: str, reason: str, message: str) -> None: ...


@dataclass(slots=True)
class _Probing:
    """One probe of one running container."""

    kind: Kind
    probe: v1.Probe
    container: v1.Container
    running: ObservedContainer
    verdict: Verdict
    task: asyncio.Task[None] | None = None


class PodProbes:
    """`changed` is called when a verdict changes; `uniform` gives random numbers from 0 to 1."""

    def __init__(
        self, asks: Asks, clock: Clock, report: Reports, changed: Callable[[], None], uniform: Callable[[], float]
    ) -> None:
        self._asks = asks
        self._clock = clock
        self._report = report
        self._changed = changed
        self._uniform = uniform
        self._probing: dict[tuple[ContainerId, Kind], _Probing] = {}
        self._address = ""

    def follow(
        self,
        owner: asyncio.TaskGroup,
        pod: v1.Pod,
        running: Collection[ObservedContainer],
        address: str,
        *,
        terminating: bool,
        known_ready: Mapping[ContainerId, bool],
    ) -> None:
        """Probes exactly the containers in `running`. A pod that terminates is still asked whether it is ready.

        `known_ready` are containers that ran before this agent started, with the readiness that was reported: it holds
        until probes say otherwise, and their first probes come at random times within a period, not all at once.
        """
        self._address = address
        wanted: dict[tuple[ContainerId, Kind], _Probing] = {}
        by_name = {container.name: container for container in pod.spec.containers}
        for observed in running:
            container = by_name.get(observed.name)
            if container is None:
                continue
            for kind, probe in _probes(container, terminating=terminating):
                ready = known_ready.get(observed.id, False)
                wanted[observed.id, kind] = _Probing(
                    kind, probe, container, observed, verdicts.initial(kind, known_ready=ready)
                )
        for key in self._probing.keys() - wanted.keys():
            task = self._probing.pop(key).task
            if task is not None:
                task.cancel()
        for key, probing in wanted.items():
            if key not in self._probing:
                self._probing[key] = probing
                probing.task = owner.create_task(
                    self._run(probing, resumed=probing.running.id in known_ready),
                    name=f"{probing.kind} of {probing.running.name}",
                )

    def stop(self) -> None:
        for probing in self._probing.values():
            if probing.task is not None:
                probing.task.cancel()
        self._probing.clear()

    def is_ready(self, container: ContainerId) -> bool:
        """Whether a running container answers its readiness probe, or has none."""
        probing = self._probing.get((container, Kind.READINESS))
        return probing is None or probing.verdict.holds is Result.SUCCESS

    @property
    def unhealthy(self) -> Collection[ContainerId]:
        """Running containers whose liveness probe has failed."""
        return [
            probing.running.id
            for probing in self._probing.values()
            if probing.kind is Kind.LIVENESS and probing.verdict.holds is Result.FAILURE
        ]

    def _first_delay(self, probing: _Probing, *, resumed: bool) -> float:
        delay = verdicts.first_delay(probing.kind, probing.probe, self._age(probing.running))
        return delay + (self._uniform() * verdicts.period(probing.probe) if resumed else 0.0)

    def _age(self, running: ObservedContainer) -> float:
        started = running.started_at or running.created_at
        return max((self._clock.now() - started).total_seconds(), 0.0)

    async def _run(self, probing: _Probing, *, resumed: bool) -> None:
        period = verdicts.period(probing.probe)
        await self._clock.sleep(self._first_delay(probing, resumed=resumed))
        due = self._clock.monotonic()
        if probing.kind is Kind.READINESS and not resumed:
            await self._look_until_ready(probing)
            due += period
            await self._clock.sleep(max(due - self._clock.monotonic(), 0.0))
        while True:
            answer = await self._ask(probing)
            self._explain(probing, answer)
            self._take(probing, answer)
            if probing.kind is Kind.LIVENESS and probing.verdict.holds is Result.FAILURE:
                # The container is going to be replaced; its successor has a probe of its own.
                return
            now = self._clock.monotonic()
            due += period * max(math.ceil((now - due) / period), 1)
            await self._clock.sleep(due - now)

    async def _look_until_ready(self, probing: _Probing) -> None:
        for wait in verdicts.looks(probing.probe):
            answer = await self._ask(probing)
            if answer.result is Result.SUCCESS:
                self._take(probing, answer)
                return
            await self._clock.sleep(wait)

    async def _ask(self, probing: _Probing) -> Answer:
        return await self._asks.ask(probing.probe, probing.container, probing.running, self._address)

    def _take(self, probing: _Probing, answer: Answer) -> None:
        before = probing.verdict.holds
        probing.verdict = verdicts.advance(probing.verdict, answer.result, probing.probe)
        if probing.verdict.holds is not before:
            self._changed()

    def _explain(self, probing: _Probing, answer: Answer) -> None:
        name = probing.container.name
        if answer.result is Result.FAILURE:
            self._report(name, "Warning", "Unhealthy", f"{probing.kind} probe failed: {answer.message}")
        elif answer.result is Result.UNKNOWN:
            self._report(name, "Warning", "Unhealthy", f"{probing.kind} probe errored: {answer.message}")
        elif answer.warning:
            self._report(name, "Warning", "ProbeWarning", f"{probing.kind} probe warning: {answer.message}")


def _probes(container: v1.Container, *, terminating: bool) -> list[tuple[Kind, v1.Probe]]:
    probes = []
    if container.HasField("readiness_probe"):
        probes.append((Kind.READINESS, container.readiness_probe))
    if container.HasField("liveness_probe") and not terminating:
        probes.append((Kind.LIVENESS, container.liveness_probe))
    return probes
