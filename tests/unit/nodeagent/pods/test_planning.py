"""The plan as a table: what is there, and what is to be done next."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nodeagent.model import ContainerId, Phase, Role
from nodeagent.pods.backoff import Failure
from nodeagent.pods.planning import (
    EnsureImage,
    Facts,
    PrepareContainer,
    PrepareVolumes,
    RemoveContainer,
    RemovePod,
    RemoveSandbox,
    RunSandbox,
    Start,
    StartContainer,
    StopContainer,
    StopReason,
    Termination,
    plan,
)
from tests.unit.nodeagent.pods.builders import IMAGE, at, attempt, container, observed, pod, sandbox

ON_FAILURE = pod(restart="OnFailure")
NEVER = pod(restart="Never")
INIT = pod(container("web"), init=(container("one"), container("two")))


def facts(now: float = 0, **others: Any) -> Facts:
    """Facts of a pod whose volumes and images are there."""
    images = dict.fromkeys(("web", "side", "one", "two"), IMAGE)
    return replace(Facts(now=at(now), images=images, volumes_ready=True), **others)


def test_image_and_volumes_do_not_wait_for_the_sandbox() -> None:
    steps = plan(pod(), observed(), Facts(now=at(0))).steps
    assert set(steps) == {RunSandbox(0), PrepareVolumes(), EnsureImage("web")}


def test_a_container_is_prepared_while_its_sandbox_is_made() -> None:
    start = Start("web", Role.APP, 0, 0)
    making = facts(busy={"sandbox"})
    assert plan(pod(), observed(), making).steps == (PrepareContainer(start),)
    prepared = replace(making, prepared={start}, images={})
    assert plan(pod(), observed(sandbox(phase=Phase.CREATED)), prepared).steps == ()
    assert plan(pod(), observed(sandbox()), prepared).steps == (StartContainer(start),)


def test_a_container_that_is_being_prepared_needs_no_other_image() -> None:
    assert plan(pod(), observed(), facts(busy={"sandbox", "container/web"}, images={})).steps == ()


def test_what_was_prepared_for_a_sandbox_that_failed_is_prepared_again_for_the_next() -> None:
    prepared = facts(prepared={Start("web", Role.APP, 0, 0)})
    steps = plan(pod(), observed(sandbox(1)), prepared).steps
    assert steps == (StartContainer(Start("web", Role.APP, 0, 1)),)


def test_steps_under_way_are_not_planned_again() -> None:
    assert plan(pod(), observed(), Facts(now=at(0), busy={"sandbox", "volumes", "image/web"})).steps == ()


def test_a_container_starts_in_its_sandbox() -> None:
    steps = plan(pod(), observed(sandbox()), facts()).steps
    assert steps == (StartContainer(Start("web", Role.APP, 0, 0)),)


def test_app_containers_start_side_by_side() -> None:
    steps = plan(pod(container("web"), container("side")), observed(sandbox()), facts()).steps
    assert [step.key for step in steps] == ["container/web", "container/side"]


def test_a_sandbox_that_was_made_and_not_started_is_taken_up() -> None:
    steps = plan(pod(), observed(sandbox(1, Phase.CREATED)), facts()).steps
    assert steps == (RunSandbox(1), PrepareContainer(Start("web", Role.APP, 0, 1)))


def test_a_container_that_was_made_and_not_started_is_taken_up() -> None:
    there = observed(sandbox(), attempt(number=3, phase=Phase.CREATED, backoff=20))
    assert plan(pod(), there, facts()).steps == (StartContainer(Start("web", Role.APP, 3, 0, 20)),)


def test_of_two_tries_at_one_attempt_the_one_that_runs_counts() -> None:
    left = replace(attempt(phase=Phase.CREATED), id=ContainerId("left"))
    assert plan(pod(), observed(sandbox(), left, attempt()), facts()).steps == ()
    assert plan(pod(), observed(sandbox(), attempt(), left), facts()).steps == ()


def test_a_running_pod_needs_nothing() -> None:
    planned = plan(pod(), observed(sandbox(), attempt()), facts())
    assert planned.steps == ()
    assert planned.wake_at is None


# Restarts: what a container that has ended did before, and when its successor starts (None: never).
@pytest.mark.parametrize(
    ("ended", "due"),
    [
        pytest.param(attempt(code=1, ended=5), 5, id="the first restart is immediate"),
        pytest.param(attempt(number=1, code=1, ended=5), 15, id="the second waits 10 s"),
        pytest.param(attempt(number=2, code=1, ended=5, backoff=10), 25, id="then 20 s"),
        pytest.param(attempt(number=3, code=1, ended=5, backoff=20), 45, id="then 40 s"),
        pytest.param(attempt(number=9, code=1, ended=5, backoff=300), 305, id="never more than 300 s"),
        pytest.param(attempt(number=9, code=1, ended=600, backoff=300), 600, id="none after 10 minutes of running"),
        pytest.param(attempt(number=9, code=0, ended=5, backoff=0), 15, id="10 s again after that"),
    ],
)
def test_the_delay_before_a_restart(ended: Any, due: float) -> None:
    there = observed(sandbox(), ended)
    early = plan(pod(), there, facts(due - 0.1))
    if due > ended.exit.finished_at.timestamp() - at(0).timestamp():
        assert early.steps == ()
        assert early.wake_at == at(due)
    on_time = plan(pod(), there, facts(due)).steps
    delay = (at(due) - ended.exit.finished_at).total_seconds()
    assert on_time == (StartContainer(Start("web", Role.APP, ended.attempt + 1, 0, delay)),)


@pytest.mark.parametrize(
    ("policy", "code", "restarts"),
    [
        ("Always", 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("Never", 0, False),
        ("Never", 1, False),
    ],
)
def test_the_restart_policy_decides(policy: str, code: int, restarts: bool) -> None:
    # A second container keeps the pod from being over.
    wanted = pod(container("web"), container("side"), restart=policy)
    steps = plan(wanted, observed(sandbox(), attempt(code=code), attempt("side")), facts()).steps
    assert [step.key for step in steps] == (["container/web"] if restarts else [])


def test_a_container_stopped_to_be_replaced_starts_again_though_it_ended_well() -> None:
    ended = attempt(code=0)
    steps = plan(ON_FAILURE, observed(sandbox(), ended), facts(replaced={ended.id})).steps
    assert [step.key for step in steps] == ["container/web"]


def test_a_failing_liveness_probe_stops_the_container_with_its_grace() -> None:
    there = observed(sandbox(), attempt())
    steps = plan(pod(), there, facts(unhealthy={attempt().id})).steps
    assert steps == (StopContainer(attempt(), 30, StopReason.UNHEALTHY),)


def test_a_liveness_probe_may_have_a_grace_of_its_own() -> None:
    wanted = container()
    wanted.liveness_probe.termination_grace_period_seconds = 3
    steps = plan(pod(wanted), observed(sandbox(), attempt()), facts(unhealthy={attempt().id})).steps
    assert steps == (StopContainer(attempt(), 3, StopReason.UNHEALTHY),)


def test_another_image_in_the_pod_replaces_the_container() -> None:
    steps = plan(pod(container(image="nginx:2")), observed(sandbox(), attempt()), facts()).steps
    assert steps == (StopContainer(attempt(), 30, StopReason.CHANGED),)


# Init containers.
def test_init_containers_run_one_after_another() -> None:
    def keys(*parts: Any) -> list[str]:
        return [step.key for step in plan(INIT, observed(sandbox(), *parts), facts()).steps]

    one = attempt("one", role=Role.INIT, code=0)
    two = attempt("two", role=Role.INIT, code=0)
    assert keys() == ["container/one"]
    assert keys(attempt("one", role=Role.INIT)) == []
    assert keys(one) == ["container/two"]
    assert keys(one, two) == ["container/web"]


def test_a_failed_init_container_is_tried_again_with_back_off() -> None:
    failed = attempt("one", 1, role=Role.INIT, code=1, ended=5)
    planned = plan(INIT, observed(sandbox(), failed), facts(5))
    assert planned.steps == ()
    assert planned.wake_at == at(15)


def test_a_failed_init_container_ends_a_pod_that_never_restarts() -> None:
    wanted = pod(container(), init=(container("one"),), restart="Never")
    steps = plan(wanted, observed(sandbox(), attempt("one", role=Role.INIT, code=1)), facts()).steps
    assert steps == (RemoveSandbox(sandbox()),)


def test_init_containers_run_again_in_a_new_sandbox() -> None:
    there = observed(
        sandbox(1),
        attempt("one", role=Role.INIT, code=0),
        attempt("two", role=Role.INIT, code=0),
        attempt("web", code=137),
    )
    steps = plan(INIT, there, facts()).steps
    assert steps == (StartContainer(Start("one", Role.INIT, 1, 1)),)


def test_init_containers_that_were_removed_do_not_run_again_beside_the_app() -> None:
    assert plan(INIT, observed(sandbox(), attempt("web")), facts()).steps == ()


# A lost sandbox.
def test_when_pause_dies_what_runs_is_killed_first() -> None:
    lost = sandbox(phase=Phase.EXITED)
    steps = plan(pod(), observed(lost, attempt()), facts()).steps
    assert steps == (StopContainer(attempt(), 0.0, StopReason.SANDBOX_LOST),)


def test_a_lost_sandbox_is_not_removed_while_a_container_is_being_started_in_it() -> None:
    lost = sandbox(phase=Phase.EXITED)
    assert plan(pod(), observed(lost), facts(busy={"container/web"})).steps == ()


def test_then_the_lost_sandbox_goes_and_another_attempt_follows() -> None:
    lost = sandbox(phase=Phase.EXITED)
    assert plan(pod(), observed(lost, attempt(code=137)), facts()).steps == (RemoveSandbox(lost),)
    steps = plan(pod(), observed(attempt(code=137)), facts()).steps
    assert RunSandbox(1) in steps


def test_a_pause_that_dies_again_at_once_is_replaced_after_ten_seconds() -> None:
    lost = sandbox(2, phase=Phase.EXITED, created=100)
    early = plan(pod(), observed(lost), facts(101))
    assert early.steps == ()
    assert early.wake_at == at(110)
    assert plan(pod(), observed(lost), facts(110)).steps == (RemoveSandbox(lost),)


def test_a_lost_sandbox_ends_a_pod_that_never_restarts() -> None:
    lost = sandbox(phase=Phase.EXITED)
    assert plan(NEVER, observed(lost, attempt(code=137)), facts()).steps == (RemoveSandbox(lost),)
    assert plan(NEVER, observed(attempt(code=137)), facts()).steps == ()


def test_a_sandbox_from_before_is_removed_beside_the_current_one() -> None:
    there = observed(sandbox(0, Phase.EXITED), sandbox(1), attempt(number=1, sandbox_attempt=1))
    assert plan(pod(), there, facts()).steps == (RemoveSandbox(sandbox(0, Phase.EXITED)),)


# The end of a pod.
def test_a_pod_that_is_over_gives_its_network_back_and_keeps_its_container() -> None:
    assert plan(ON_FAILURE, observed(sandbox(), attempt(code=0)), facts()).steps == (RemoveSandbox(sandbox()),)
    assert plan(ON_FAILURE, observed(attempt(code=0)), facts()).steps == ()


def test_an_end_that_was_reported_is_final() -> None:
    assert plan(pod(), observed(), facts(reported_phase="Failed")).steps == ()


def test_one_ended_attempt_of_each_container_stays() -> None:
    there = observed(sandbox(), attempt(number=0, code=1), attempt(number=1, code=1), attempt(number=2))
    assert plan(pod(), there, facts()).steps == (RemoveContainer(attempt(number=0, code=1)),)


def test_a_deleted_pod_stops_within_what_is_left_of_its_grace() -> None:
    steps = plan(pod(), observed(sandbox(), attempt()), facts(10, termination=Termination(at(30)))).steps
    assert steps == (StopContainer(attempt(), 20, StopReason.DELETED),)


def test_a_stop_with_less_grace_is_planned_beside_one_under_way() -> None:
    hurry = facts(10, busy={"container/web"}, termination=Termination(at(11)))
    assert plan(pod(), observed(sandbox(), attempt()), hurry).steps == (
        StopContainer(attempt(), 1, StopReason.DELETED),
    )


@pytest.mark.parametrize("busy", ["sandbox", "container/web", "volumes", "image/web"])
def test_a_deleted_pod_is_removed_only_when_nothing_is_under_way(busy: str) -> None:
    ending = Termination(at(0))
    assert plan(pod(), observed(sandbox()), facts(busy={busy}, termination=ending)).steps == ()
    assert plan(pod(), observed(sandbox()), facts(termination=ending)).steps == (RemovePod(),)


# Failures.
def test_a_failed_step_waits_for_its_retry() -> None:
    failure = Failure("FailedCreatePodSandBox", "no address is free", at(0), delay=5)
    known = {"failures": {"sandbox": failure}, "prepared": {Start("web", Role.APP, 0, 0)}}
    early = plan(pod(), observed(), facts(2, **known))
    assert early.steps == ()
    assert early.wake_at == at(5)
    assert plan(pod(), observed(), facts(5, **known)).steps == (RunSandbox(0),)


def test_a_fresh_failure_is_looked_at_once_more_when_it_becomes_a_back_off() -> None:
    failure = Failure("ErrImagePull", "no such image", at(0), delay=10)
    planned = plan(pod(), observed(sandbox()), facts(0, images={}, failures={"image/web": failure}))
    assert planned.steps == ()
    assert planned.wake_at == at(1)
