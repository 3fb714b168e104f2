"""The status that is reported, for what there is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from nodeagent.model import ContainerId, ObservedPod, Phase, Role
from nodeagent.pods.backoff import Failure
from nodeagent.pods.planning import Facts, Termination
from nodeagent.pods.status import Sight, build, qos_class
from podwire import v1
from tests.unit.nodeagent.pods.builders import UID, at, attempt, container, observed, pod, sandbox


def status(
    wanted: v1.Pod,
    there: ObservedPod,
    *,
    now: float = 0,
    ready: tuple[str, ...] = (),
    previous: v1.PodStatus | None = None,
    **facts: Any,
) -> v1.PodStatus:
    return build(
        Sight(
            pod=wanted,
            observed=there,
            facts=replace(Facts(now=at(now)), **facts),
            ready={ContainerId(name) for name in ready},
            host_ip="10.77.0.11",
            previous=previous or v1.PodStatus(),
        )
    )


def condition(of: v1.PodStatus, kind: str) -> v1.PodCondition:
    return next(c for c in of.conditions if c.type == kind)


def test_a_pod_that_was_just_seen_is_pending() -> None:
    seen = status(pod(), observed())
    assert seen.phase == "Pending"
    assert seen.host_ip == "10.77.0.11"
    assert seen.pod_ip == ""
    assert seen.container_statuses[0].state.waiting.reason == "ContainerCreating"
    assert [c.type for c in seen.conditions] == [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
    ]
    assert condition(seen, "Initialized").status == "True"
    assert condition(seen, "Ready").reason == "ContainersNotReady"
    assert condition(seen, "Ready").message == "containers with unready status: [web]"


def test_a_running_and_ready_pod() -> None:
    seen = status(pod(), observed(sandbox(), attempt(started=3)), ready=(attempt().id,))
    web = seen.container_statuses[0]
    assert seen.phase == "Running"
    assert (seen.pod_ip, seen.pod_ips[0].ip) == ("10.244.1.2", "10.244.1.2")
    assert web.ready and web.started
    assert web.container_id == f"containerd://{attempt().id}"
    assert web.state.running.started_at.ToSeconds() == at(3).timestamp()
    assert all(c.status == "True" for c in seen.conditions)


def test_a_running_pod_that_is_not_ready() -> None:
    seen = status(pod(), observed(sandbox(), attempt()))
    assert seen.phase == "Running"
    assert condition(seen, "Ready").status == "False"
    assert condition(seen, "PodReadyToStartContainers").status == "True"


def test_a_pod_of_the_hosts_network_has_the_hosts_address() -> None:
    wanted = pod()
    wanted.spec.host_network = True
    assert status(wanted, observed(sandbox(), attempt())).pod_ip == "10.77.0.11"


def test_a_crashing_container_shows_its_back_off_and_its_last_end() -> None:
    seen = status(pod(), observed(sandbox(), attempt(number=2, code=1, ended=5, backoff=10)), now=6)
    web = seen.container_statuses[0]
    assert web.state.waiting.reason == "CrashLoopBackOff"
    assert web.state.waiting.message == f"back-off 20s restarting failed container=web pod=web_default({UID})"
    assert web.state.waiting.next_start_time.ToSeconds() == at(25).timestamp()
    assert web.last_state.terminated.exit_code == 1
    assert web.restart_count == 2
    assert seen.phase == "Running"


def test_the_longest_back_off_reads_as_in_kubernetes() -> None:
    seen = status(pod(), observed(sandbox(), attempt(number=9, code=1, backoff=300)))
    assert seen.container_statuses[0].state.waiting.message.startswith("back-off 5m0s restarting")


def test_a_restarted_container_remembers_its_last_end() -> None:
    there = observed(sandbox(), attempt(number=0, code=137, ended=9), attempt(number=1, started=9))
    web = status(pod(), there).container_statuses[0]
    assert web.restart_count == 1
    assert web.last_state.terminated.exit_code == 137
    assert web.last_state.terminated.finished_at.ToSeconds() == at(9).timestamp()


def test_the_last_state_outlives_the_removal_of_that_container() -> None:
    before = status(pod(), observed(sandbox(), attempt(number=0, code=137), attempt(number=1)))
    after = status(pod(), observed(sandbox(), attempt(number=1)), previous=before)
    assert after.container_statuses[0].last_state.terminated.exit_code == 137


# Phase by restart policy and the containers' exit codes; None runs.
@pytest.mark.parametrize(
    ("policy", "codes", "phase"),
    [
        ("Always", (0, 0), "Running"),
        ("OnFailure", (0, 0), "Succeeded"),
        ("OnFailure", (0, 1), "Running"),
        ("OnFailure", (0, None), "Running"),
        ("Never", (0, 0), "Succeeded"),
        ("Never", (0, 1), "Failed"),
        ("Never", (1, None), "Running"),
    ],
)
def test_the_phase(policy: str, codes: tuple[int | None, int | None], phase: str) -> None:
    wanted = pod(container("web"), container("side"), restart=policy)
    there = observed(sandbox(), attempt("web", code=codes[0]), attempt("side", code=codes[1]))
    assert status(wanted, there).phase == phase


def test_a_pod_that_succeeded_says_so_in_its_conditions() -> None:
    seen = status(pod(restart="Never"), observed(attempt(code=0)))
    assert condition(seen, "Ready").reason == "PodCompleted"
    assert condition(seen, "Initialized").status == "True"
    assert seen.container_statuses[0].state.terminated.reason == "Completed"


def test_a_pod_that_is_over_stays_initialized_without_its_sandbox() -> None:
    wanted = pod(container("web"), init=(container("one"),), restart="Never")
    seen = status(wanted, observed(attempt("one", role=Role.INIT, code=0), attempt("web", code=1)))
    assert seen.phase == "Failed"
    assert condition(seen, "Initialized").status == "True"
    assert condition(seen, "Ready").reason == "PodFailed"


def test_a_pod_whose_initialization_failed_was_never_initialized() -> None:
    wanted = pod(container("web"), init=(container("one"),), restart="Never")
    seen = status(wanted, observed(attempt("one", role=Role.INIT, code=1)))
    assert seen.phase == "Failed"
    assert condition(seen, "Initialized").status == "False"
    assert seen.container_statuses[0].state.waiting.reason == "PodInitializing"


def test_a_pod_that_was_stopped_has_ended_whatever_its_restart_policy() -> None:
    there = observed(sandbox(), attempt(code=137))
    assert status(pod(), there, termination=Termination(at(0))).phase == "Failed"


# Init containers.
def test_init_containers_hold_the_others_back() -> None:
    wanted = pod(container("web"), init=(container("one"), container("two")))
    seen = status(wanted, observed(sandbox(), attempt("one", role=Role.INIT)))
    assert seen.phase == "Pending"
    assert seen.init_container_statuses[0].state.HasField("running")
    assert seen.init_container_statuses[1].state.waiting.reason == "PodInitializing"
    assert seen.container_statuses[0].state.waiting.reason == "PodInitializing"
    initialized = condition(seen, "Initialized")
    assert initialized.reason == "ContainersNotInitialized"
    assert initialized.message == "containers with incomplete status: [one two]"


def test_a_done_init_container_is_ready() -> None:
    wanted = pod(container("web"), init=(container("one"),))
    seen = status(wanted, observed(sandbox(), attempt("one", role=Role.INIT, code=0), attempt("web")))
    assert seen.init_container_statuses[0].ready
    assert seen.init_container_statuses[0].state.terminated.reason == "Completed"
    assert condition(seen, "Initialized").status == "True"
    assert seen.phase == "Running"


# Failures.
def test_a_failed_pull_becomes_a_back_off() -> None:
    failure = Failure("ErrImagePull", "no such image", at(0), delay=10)
    first = status(pod(), observed(sandbox()), now=0.5, failures={"image/web": failure})
    later = status(pod(), observed(sandbox()), now=1.5, failures={"image/web": failure})
    assert first.container_statuses[0].state.waiting.reason == "ErrImagePull"
    assert first.container_statuses[0].state.waiting.message == "no such image"
    assert later.container_statuses[0].state.waiting.reason == "ImagePullBackOff"
    assert later.container_statuses[0].state.waiting.message == 'Back-off pulling image "nginx": no such image'
    assert later.phase == "Pending"


def test_a_wrong_configuration_is_named() -> None:
    failure = Failure("CreateContainerConfigError", "valueFrom is not supported yet", at(0), delay=10)
    waiting = (
        status(pod(), observed(sandbox()), failures={"container/web": failure}).container_statuses[0].state.waiting
    )
    assert (waiting.reason, waiting.message) == ("CreateContainerConfigError", "valueFrom is not supported yet")


def test_a_volume_that_cannot_be_mounted_keeps_the_container_in_creation() -> None:
    failure = Failure("FailedMount", "/x is not a directory", at(0), delay=10)
    seen = status(pod(), observed(sandbox()), failures={"volumes": failure})
    assert seen.container_statuses[0].state.waiting.reason == "ContainerCreating"


# Conditions.
def test_a_condition_keeps_the_time_of_its_last_transition() -> None:
    first = status(pod(), observed(sandbox(), attempt()), now=1, ready=(attempt().id,))
    second = status(pod(), observed(sandbox(), attempt()), now=9, ready=(attempt().id,), previous=first)
    third = status(pod(), observed(sandbox(), attempt()), now=20, previous=second)
    assert second == first
    assert condition(third, "Ready").last_transition_time == Timestamp(seconds=int(at(20).timestamp()))
    assert condition(third, "Initialized").last_transition_time == Timestamp(seconds=int(at(1).timestamp()))


def test_conditions_of_others_gate_readiness_and_are_not_reported() -> None:
    wanted = pod()
    wanted.spec.readiness_gates.add(condition_type="example.com/lb")
    running = observed(sandbox(), attempt())
    held = status(wanted, running, ready=(attempt().id,))
    assert condition(held, "Ready").reason == "ReadinessGatesNotReady"
    assert condition(held, "ContainersReady").status == "True"
    wanted.status.conditions.add(type="example.com/lb", status="True")
    freed = status(wanted, running, ready=(attempt().id,))
    assert condition(freed, "Ready").status == "True"
    assert all(c.type != "example.com/lb" for c in freed.conditions)


def test_a_pod_without_its_sandbox_has_no_address() -> None:
    seen = status(pod(), observed(sandbox(phase=Phase.EXITED), attempt(code=137)), now=1)
    assert seen.pod_ip == ""
    assert condition(seen, "PodReadyToStartContainers").status == "False"


def test_the_class_of_service() -> None:
    def of(limits: dict[str, str], requests: dict[str, str]) -> str:
        wanted = container()
        for name, amount in limits.items():
            wanted.resources.limits[name].string = amount
        for name, amount in requests.items():
            wanted.resources.requests[name].string = amount
        return qos_class(pod(wanted))

    assert of({}, {}) == "BestEffort"
    assert of({"cpu": "1", "memory": "1Gi"}, {}) == "Guaranteed"
    assert of({"cpu": "1", "memory": "1Gi"}, {"cpu": "1", "memory": "1Gi"}) == "Guaranteed"
    assert of({"cpu": "1", "memory": "1Gi"}, {"cpu": "500m"}) == "Burstable"
    assert of({}, {"cpu": "1"}) == "Burstable"
