"""READY, STATUS and RESTARTS, as kubectl's printPod decides them."""

from typing import Any

import pytest

from podctl.pod_summary import summarise
from podwire import kinds, manifest, v1

NOW = 1_795_373_834.0
RUNNING = {"running": {"startedAt": "2026-11-22T18:50:00Z"}}


def pod(status: dict[str, Any], *, spec: dict[str, Any] | None = None, **metadata: Any) -> v1.Pod:
    spec = {"containers": [{"name": "main", "image": "x"}]} | (spec or {})
    tree = {"metadata": {"name": "web", **metadata}, "spec": spec, "status": status}
    made: v1.Pod = manifest.from_tree(kinds.POD, tree)
    return made


def container(state: dict[str, Any], *, ready: bool = False, restarts: int = 0, **rest: Any) -> dict[str, Any]:
    return {"name": "main", "state": state, "ready": ready, "restartCount": restarts, **rest}


def ended(code: int, reason: str = "", **rest: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, **rest}}


READY = [{"type": "Ready", "status": "True"}]
DELETED: dict[str, Any] = {"deletionTimestamp": "2026-11-22T18:57:00Z"}


@pytest.mark.parametrize(
    ("given", "ready", "status"),
    [
        (pod({"phase": "Pending"}), "0/1", "Pending"),
        (pod({"phase": "Running", "containerStatuses": [container(RUNNING, ready=True)]}), "1/1", "Running"),
        (pod({"phase": "Running", "containerStatuses": [container(RUNNING)]}), "0/1", "Running"),
        (
            pod({"phase": "Pending", "containerStatuses": [container({"waiting": {"reason": "ContainerCreating"}})]}),
            "0/1",
            "ContainerCreating",
        ),
        (
            pod({"phase": "Running", "containerStatuses": [container({"waiting": {"reason": "CrashLoopBackOff"}})]}),
            "0/1",
            "CrashLoopBackOff",
        ),
        (pod({"phase": "Succeeded", "containerStatuses": [container(ended(0, "Completed"))]}), "0/1", "Completed"),
        (pod({"phase": "Failed", "containerStatuses": [container(ended(1, "Error"))]}), "0/1", "Error"),
        (pod({"phase": "Failed", "containerStatuses": [container(ended(3))]}), "0/1", "ExitCode:3"),
        (pod({"phase": "Failed", "containerStatuses": [container(ended(137, signal=9))]}), "0/1", "Signal:9"),
        (pod({"phase": "Failed", "reason": "Evicted"}), "0/1", "Evicted"),
        (
            pod({"phase": "Running", "containerStatuses": [container(RUNNING, ready=True)]}, **DELETED),
            "1/1",
            "Terminating",
        ),
        (
            pod({"phase": "Succeeded", "containerStatuses": [container(ended(0, "Completed"))]}, **DELETED),
            "0/1",
            "Completed",
        ),
        (pod({"phase": "Running", "reason": "NodeLost"}, **DELETED), "0/1", "Unknown"),
    ],
)
def test_the_state_of_a_pod_is_one_word(given: v1.Pod, ready: str, status: str) -> None:
    summary = summarise(given, NOW)
    assert (f"{summary.ready}/{summary.containers}", summary.status) == (ready, status)


TWO = {"containers": [{"name": "main", "image": "x"}, {"name": "other", "image": "x"}]}


def test_a_container_that_has_ended_beside_one_that_runs_does_not_end_the_pod() -> None:
    statuses = [container(ended(0, "Completed")), container(RUNNING, ready=True) | {"name": "other"}]
    running = {"phase": "Running", "containerStatuses": statuses}
    assert summarise(pod(running, spec=TWO), NOW).status == "NotReady"
    assert summarise(pod(running | {"conditions": READY}, spec=TWO), NOW).status == "Running"


INIT = {
    "initContainers": [{"name": "first", "image": "x"}, {"name": "second", "image": "x"}],
}


@pytest.mark.parametrize(
    ("states", "status"),
    [
        ([RUNNING, {"waiting": {"reason": "PodInitializing"}}], "Init:0/2"),
        ([ended(0, "Completed"), RUNNING], "Init:1/2"),
        ([ended(0, "Completed"), {"waiting": {"reason": "CrashLoopBackOff"}}], "Init:CrashLoopBackOff"),
        ([ended(1, "Error")], "Init:Error"),
        ([ended(2)], "Init:ExitCode:2"),
        ([ended(0, "Completed"), ended(0, "Completed")], "PodInitializing"),
    ],
)
def test_init_containers_show_how_far_they_are(states: list[dict[str, Any]], status: str) -> None:
    names = ("first", "second")
    inits = [container(state) | {"name": name} for name, state in zip(names, states, strict=False)]
    waiting = container({"waiting": {"reason": "PodInitializing"}})
    given = pod({"phase": "Pending", "initContainerStatuses": inits, "containerStatuses": [waiting]}, spec=INIT)
    assert summarise(given, NOW).status == status


def test_restarts_say_how_long_ago_the_last_one_was() -> None:
    last = {"lastState": ended(1, finishedAt="2026-11-22T18:57:09Z")}
    first = container(RUNNING, ready=True, restarts=2, **last)
    second = container(RUNNING, ready=True, restarts=1, lastState=ended(1, finishedAt="2026-11-22T18:00:00Z"))
    given = pod({"phase": "Running", "containerStatuses": [first, second | {"name": "other"}]}, spec=TWO)
    assert summarise(given, NOW).restarts == "3 (5s ago)"


def test_a_restart_whose_time_is_not_known_is_only_counted() -> None:
    given = pod({"phase": "Running", "containerStatuses": [container(RUNNING, restarts=2)]})
    assert summarise(given, NOW).restarts == "2"


def test_a_sidecar_counts_among_the_containers() -> None:
    spec = {"initContainers": [{"name": "proxy", "image": "x", "restartPolicy": "Always"}]}
    inits = [container(RUNNING, ready=True, restarts=1, started=True) | {"name": "proxy"}]
    status = {
        "phase": "Running",
        "initContainerStatuses": inits,
        "containerStatuses": [container(RUNNING, ready=True)],
    }
    summary = summarise(pod(status, spec=spec), NOW)
    assert (summary.ready, summary.containers, summary.status, summary.restarts) == (2, 2, "Running", "1")
