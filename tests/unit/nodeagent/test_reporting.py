"""Statuses on their way: batches, acknowledgements, what is sent again."""

from __future__ import annotations

import pytest

from nodeagent.reporting import StatusReporter
from podwire import v1
from tests.unit.nodeagent.clock import ManualClock


def pod(uid: str, status: v1.PodStatus | None = None) -> v1.Pod:
    return v1.Pod(metadata=v1.ObjectMeta(namespace="default", name=f"pod-{uid}", uid=uid), status=status)


def running(ip: str = "10.244.1.2") -> v1.PodStatus:
    return v1.PodStatus(phase="Running", pod_ip=ip)


class Api:
    """What the API has, as the agent's informer shows it."""

    def __init__(self) -> None:
        self.pods: dict[str, v1.Pod] = {}

    def get(self, key: str) -> v1.Pod | None:
        return self.pods.get(key)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def reporter(clock: ManualClock, api: Api) -> StatusReporter:
    return StatusReporter(clock, api.get)


def sent(reporter: StatusReporter) -> dict[str, str]:
    """The next batch: uid -> phase or address."""
    batch = reporter.next_batch()
    return {} if batch is None else {update.uid: update.status.pod_ip for update in batch.updates}


def test_what_gathers_goes_out_in_one_batch_with_the_last_status_of_each_pod(reporter: StatusReporter) -> None:
    reporter.report(pod("a"), running("1"))
    reporter.report(pod("b"), running("2"))
    reporter.report(pod("a"), running("3"))
    assert reporter.changed.is_set()
    assert sent(reporter) == {"a": "3", "b": "2"}
    assert reporter.next_batch() is None


def test_what_was_not_acknowledged_is_sent_again_over_the_next_session(reporter: StatusReporter) -> None:
    reporter.report(pod("a"), running("1"))
    reporter.report(pod("b"), running("2"))
    first = reporter.next_batch()
    assert first is not None
    reporter.acknowledged(v1.StatusAck(sequence=first.sequence))
    reporter.report(pod("b"), running("3"))
    assert sent(reporter) == {"b": "3"}
    reporter.session_ended()
    assert sent(reporter) == {"b": "3"}


def test_a_large_backlog_goes_out_in_several_batches(reporter: StatusReporter) -> None:
    for number in range(30):
        reporter.report(pod(str(number)), v1.PodStatus(message="x" * 100_000))
    sizes = []
    while batch := reporter.next_batch():
        sizes.append(len(batch.updates))
    assert len(sizes) > 1
    assert sum(sizes) == 30


async def test_a_status_that_could_not_be_stored_is_sent_again_later(
    reporter: StatusReporter, clock: ManualClock
) -> None:
    reporter.report(pod("a"), running())
    batch = reporter.next_batch()
    assert batch is not None
    failed = v1.StatusResult(uid="a", reason="UNAVAILABLE", message="etcd is away")
    reporter.acknowledged(v1.StatusAck(sequence=batch.sequence, results=[failed]))
    assert reporter.next_batch() is None
    await clock.advance(1)
    assert sent(reporter) == {"a": "10.244.1.2"}


async def test_the_status_of_a_pod_that_is_gone_is_forgotten(reporter: StatusReporter, clock: ManualClock) -> None:
    reporter.report(pod("a"), running())
    batch = reporter.next_batch()
    assert batch is not None
    gone = v1.StatusResult(uid="a", reason="NOT_FOUND")
    reporter.acknowledged(v1.StatusAck(sequence=batch.sequence, results=[gone]))
    await clock.advance(10)
    reporter.session_ended()
    assert reporter.next_batch() is None


async def test_a_foreign_status_is_put_right(reporter: StatusReporter, clock: ManualClock, api: Api) -> None:
    reporter.assume(pod("a"), running())
    foreign = pod("a", v1.PodStatus(phase="Failed"))
    api.pods["default/pod-a"] = foreign
    reporter.seen("default/pod-a", None, foreign)
    assert reporter.next_batch() is None
    await clock.advance(1)
    assert sent(reporter) == {"a": "10.244.1.2"}


async def test_our_own_status_that_comes_back_late_is_not_foreign(
    reporter: StatusReporter, clock: ManualClock, api: Api
) -> None:
    reporter.assume(pod("a"), running("2"))
    reporter.seen("default/pod-a", None, pod("a", running("1")))
    api.pods["default/pod-a"] = pod("a", running("2"))
    await clock.advance(1)
    assert reporter.next_batch() is None


async def test_conditions_that_others_wrote_are_not_foreign(
    reporter: StatusReporter, clock: ManualClock, api: Api
) -> None:
    reporter.assume(pod("a"), running())
    stored = pod("a", running())
    stored.status.conditions.add(type="PodScheduled", status="True")
    api.pods["default/pod-a"] = stored
    reporter.seen("default/pod-a", None, stored)
    await clock.advance(1)
    assert reporter.next_batch() is None
