"""What a replica set does next, as a table of its pods."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from controlplane.controllers.replica_set_plan import BURST, observe, plan
from podwire import v1

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LABELS = {"app": "web"}


def at(seconds_ago: int) -> Timestamp:
    return Timestamp(seconds=int((NOW - timedelta(seconds=seconds_ago)).timestamp()))


def pod(
    name: str,
    *,
    node: str = "n1",
    phase: str = "Running",
    ready_for: int | None = 60,
    age: int = 100,
    restarts: int = 0,
    terminating: bool = False,
) -> v1.Pod:
    made = v1.Pod(
        metadata=v1.ObjectMeta(name=name, namespace="default", uid=name, labels=LABELS, creation_timestamp=at(age)),
        spec=v1.PodSpec(node_name=node),
        status=v1.PodStatus(phase=phase, container_statuses=[v1.ContainerStatus(restart_count=restarts)]),
    )
    if ready_for is not None:
        made.status.conditions.add(type="Ready", status="True", last_transition_time=at(ready_for))
    if terminating:
        made.metadata.deletion_timestamp.CopyFrom(at(0))
    return made


def replica_set(replicas: int, *, min_ready: int = 0) -> v1.ReplicaSet:
    return v1.ReplicaSet(
        metadata=v1.ObjectMeta(name="web", namespace="default", generation=7),
        spec=v1.ReplicaSetSpec(
            replicas=replicas,
            min_ready_seconds=min_ready,
            template=v1.PodTemplateSpec(metadata=v1.ObjectMeta(labels=LABELS)),
        ),
    )


@pytest.mark.parametrize(
    ("replicas", "pods", "create"),
    [
        pytest.param(3, [], 3, id="all are missing"),
        pytest.param(3, [pod("a")], 2, id="some are missing"),
        pytest.param(1, [pod("a")], 0, id="none is missing"),
        pytest.param(2, [pod("a"), pod("b", terminating=True)], 1, id="one that is being stopped is replaced"),
        pytest.param(2, [pod("a"), pod("b", phase="Failed")], 1, id="one that failed is replaced"),
        pytest.param(BURST + 100, [], BURST, id="no more than a burst at once"),
    ],
)
def test_missing_pods_are_created(replicas: int, pods: list[v1.Pod], create: int) -> None:
    step = plan(replica_set(replicas), pods)

    assert (step.create, list(step.delete)) == (create, [])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(pod("z", node="", phase="Pending", ready_for=None), pod("a"), id="without a node"),
        pytest.param(pod("z", phase="Pending", ready_for=None), pod("a", ready_for=None), id="pending"),
        pytest.param(pod("z", ready_for=None), pod("a"), id="not ready"),
        pytest.param(pod("z", ready_for=5), pod("a", ready_for=50), id="ready for a shorter time"),
        pytest.param(pod("z", restarts=3), pod("a"), id="restarted more often"),
        pytest.param(pod("z", age=10), pod("a", age=90), id="younger"),
        pytest.param(pod("a"), pod("b"), id="by name when equal in everything"),
    ],
)
@pytest.mark.parametrize("order", [list, reversed])
def test_of_two_pods_the_first_to_go_is_the_one(
    first: v1.Pod, second: v1.Pod, order: Callable[[list[v1.Pod]], list[v1.Pod]]
) -> None:
    step = plan(replica_set(1), list(order([first, second])))

    assert [gone.metadata.name for gone in step.delete] == [first.metadata.name]


def test_pods_go_from_the_node_that_has_most_of_them() -> None:
    pods = [pod("a", node="n1"), pod("b", node="n2", ready_for=10), pod("c", node="n1", ready_for=50)]

    assert [gone.metadata.name for gone in plan(replica_set(2), pods).delete] == ["c"]


def test_the_status_counts_active_pods_and_when_they_become_available() -> None:
    pods = [
        pod("old", ready_for=60),
        pod("fresh", ready_for=4),
        pod("starting", ready_for=None),
        pod("stopping", terminating=True),
    ]

    observed = observe(replica_set(3, min_ready=10), pods, NOW)

    status = observed.status
    assert (status.replicas, status.fully_labeled_replicas) == (3, 3)
    assert (status.ready_replicas, status.available_replicas) == (2, 1)
    assert status.observed_generation == 7
    assert observed.changes_at == NOW + timedelta(seconds=6)
