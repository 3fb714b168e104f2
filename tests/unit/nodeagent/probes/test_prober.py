"""The schedule of a pod's probes, with a clock that is moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from nodeagent.model import ObservedContainer
from nodeagent.probes.prober import PodProbes
from nodeagent.probes.verdicts import Answer, Result
from podwire import v1
from tests.unit.nodeagent.clock import ManualClock
from tests.unit.nodeagent.pods.builders import attempt, container, pod

GOOD = Answer(Result.SUCCESS)
BAD = Answer(Result.FAILURE, "HTTP probe failed with statuscode: 404")


@dataclass
class Scene:
    """Probes of one pod; `answer` is what every container says now."""

    clock: ManualClock
    owner: asyncio.TaskGroup
    answer: Answer = GOOD
    asked_at: list[float] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    changes: int = 0
    random: float = 0.5

    def __post_init__(self) -> None:
        self.probes = PodProbes(self, self.clock, self._report, self._changed, lambda: self.random)

    async def ask(self, probe: v1.Probe, of: v1.Container, running: ObservedContainer, address: str) -> Answer:
        self.asked_at.append(round(self.clock.monotonic() - 1000, 3))
        return self.answer

    def follow(self, wanted: v1.Container, *running: ObservedContainer, **options: object) -> None:
        settings = {"terminating": False, "known_ready": {}, **options}
        self.probes.follow(self.owner, pod(wanted), running, "10.244.1.2", **settings)  # type: ignore[arg-type]

    def _report(self, container: str, kind: str, reason: str, message: str) -> None:
        self.events.append(f"{container} {kind} {reason} {message}")

    def _changed(self) -> None:
        self.changes += 1


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with asyncio.TaskGroup() as owner:
        made = Scene(ManualClock(), owner)
        yield made
        made.probes.stop()


def probed(edit: Callable[[v1.Container], v1.Probe], **values: int) -> v1.Container:
    wanted = container()
    edit(wanted).MergeFrom(v1.Probe(**values))  # type: ignore[arg-type]
    edit(wanted).exec.command.append("true")
    return wanted


def readiness(**values: int) -> v1.Container:
    return probed(lambda wanted: wanted.readiness_probe, **values)


def liveness(**values: int) -> v1.Container:
    return probed(lambda wanted: wanted.liveness_probe, **values)


async def test_a_container_without_a_readiness_probe_is_ready(scene: Scene) -> None:
    scene.follow(container(), attempt())
    assert scene.probes.is_ready(attempt().id)


async def test_readiness_begins_as_failure_and_is_probed_after_its_initial_delay(scene: Scene) -> None:
    scene.follow(readiness(initial_delay_seconds=5, period_seconds=3), attempt())
    await scene.clock.advance(4.9)
    assert not scene.probes.is_ready(attempt().id)
    await scene.clock.advance(0.1)
    assert scene.probes.is_ready(attempt().id)
    assert scene.changes == 1
    await scene.clock.advance(6)
    assert scene.asked_at == [5, 8, 11]


async def test_a_container_that_has_just_started_is_looked_at_more_often_without_events(scene: Scene) -> None:
    scene.answer = BAD
    scene.follow(readiness(period_seconds=10), attempt())
    await scene.clock.advance(0.2)
    scene.answer = GOOD
    await scene.clock.advance(0.2)
    assert scene.probes.is_ready(attempt().id)
    assert scene.asked_at == [0, 0.1, 0.3]
    assert scene.events == []
    await scene.clock.advance(9.6)
    assert scene.asked_at[-1] == 10


async def test_a_failing_readiness_probe_is_told_and_counted_by_period(scene: Scene) -> None:
    scene.follow(readiness(period_seconds=10, failure_threshold=2), attempt())
    await scene.clock.advance(5)
    scene.answer = BAD
    await scene.clock.advance(5)
    assert scene.probes.is_ready(attempt().id)
    await scene.clock.advance(10)
    assert not scene.probes.is_ready(attempt().id)
    told = "web Warning Unhealthy Readiness probe failed: HTTP probe failed with statuscode: 404"
    assert scene.events == [told, told]


async def test_a_failed_liveness_probe_is_not_asked_again(scene: Scene) -> None:
    scene.answer = BAD
    scene.follow(liveness(period_seconds=5, failure_threshold=3, initial_delay_seconds=5), attempt())
    await scene.clock.advance(60)
    assert scene.asked_at == [5, 10, 15]
    assert list(scene.probes.unhealthy) == [attempt().id]


async def test_the_replacement_of_a_container_is_probed_anew(scene: Scene) -> None:
    scene.answer = BAD
    wanted = liveness(period_seconds=5, failure_threshold=1)
    scene.follow(wanted, attempt())
    await scene.clock.advance(2)
    assert scene.probes.unhealthy
    scene.follow(wanted, attempt(number=1, started=2))
    assert not scene.probes.unhealthy


async def test_a_pod_that_terminates_is_asked_whether_it_is_ready_and_not_whether_it_lives(scene: Scene) -> None:
    wanted = readiness(period_seconds=5)
    wanted.liveness_probe.exec.command.append("true")
    scene.follow(wanted, attempt())
    await scene.clock.advance(1)
    scene.follow(wanted, attempt(), terminating=True)
    scene.answer = BAD
    await scene.clock.advance(60)
    assert not scene.probes.unhealthy
    assert not scene.probes.is_ready(attempt().id)


async def test_after_a_restart_of_the_agent_the_first_probe_comes_at_a_random_time(scene: Scene) -> None:
    scene.answer = BAD
    scene.follow(
        readiness(period_seconds=10, failure_threshold=3), attempt(started=-100), known_ready={attempt().id: True}
    )
    assert scene.probes.is_ready(attempt().id)
    await scene.clock.advance(24.9)
    assert scene.asked_at == [5, 15]
    assert scene.probes.is_ready(attempt().id)
    await scene.clock.advance(0.1)
    assert not scene.probes.is_ready(attempt().id)


async def test_a_container_that_was_not_ready_stays_so_over_a_restart_of_the_agent(scene: Scene) -> None:
    scene.follow(readiness(period_seconds=10), attempt(started=-100), known_ready={attempt().id: False})
    assert not scene.probes.is_ready(attempt().id)
    await scene.clock.advance(5)
    assert scene.probes.is_ready(attempt().id)


async def test_an_unknown_result_changes_nothing_and_is_told(scene: Scene) -> None:
    scene.answer = Answer(Result.UNKNOWN, "containerd is away")
    scene.follow(liveness(period_seconds=5, failure_threshold=1), attempt())
    await scene.clock.advance(11)
    assert not scene.probes.unhealthy
    assert scene.events[0] == "web Warning Unhealthy Liveness probe errored: containerd is away"
