"""What a deployment says of itself while it is rolled out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from controlplane import conditions
from controlplane.controllers.deployment_status import Observed, observe
from podwire import v1

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DEADLINE = 600


def deployment(replicas: int = 3, *, paused: bool = False) -> v1.Deployment:
    share = v1.IntOrString(string="25%")
    return v1.Deployment(
        metadata=v1.ObjectMeta(name="web", namespace="default", generation=4),
        spec=v1.DeploymentSpec(
            replicas=replicas,
            paused=paused,
            progress_deadline_seconds=DEADLINE,
            strategy=v1.DeploymentStrategy(
                type="RollingUpdate",
                rolling_update=v1.RollingUpdateDeployment(max_surge=share, max_unavailable=share),
            ),
        ),
    )


def replica_set(name: str, replicas: int, available: int) -> v1.ReplicaSet:
    return v1.ReplicaSet(
        metadata=v1.ObjectMeta(name=name, uid=name),
        spec=v1.ReplicaSetSpec(replicas=replicas),
        status=v1.ReplicaSetStatus(replicas=replicas, ready_replicas=available, available_replicas=available),
    )


def told(observed: Observed, kind: str) -> tuple[str, str, str]:
    condition = conditions.find(observed.status.conditions, kind)
    assert condition is not None
    return condition.status, condition.reason, condition.message


def follow(wanted: v1.Deployment, observed: Observed) -> v1.Deployment:
    wanted.status.CopyFrom(observed.status)
    return wanted


def test_the_counts_add_up_over_the_sets() -> None:
    new, old = replica_set("web-2", 1, 0), replica_set("web-1", 3, 3)

    status = observe(deployment(), new, [old, new], NOW).status

    assert (status.replicas, status.updated_replicas) == (4, 1)
    assert (status.ready_replicas, status.available_replicas, status.unavailable_replicas) == (3, 3, 1)
    assert status.observed_generation == 4


def test_it_is_available_while_enough_pods_are() -> None:
    enough, few = replica_set("web-1", 4, 3), replica_set("web-1", 4, 2)

    assert told(observe(deployment(4), enough, [enough], NOW), "Available")[:2] == ("True", "MinimumReplicasAvailable")
    assert told(observe(deployment(4), few, [few], NOW), "Available")[:2] == ("False", "MinimumReplicasUnavailable")


def test_a_rollout_progresses_and_succeeds() -> None:
    wanted = deployment()
    current = replica_set("web-1", 3, 0)
    began = observe(wanted, current, [current], NOW)
    assert told(began, "Progressing") == ("True", "ReplicaSetUpdated", 'ReplicaSet "web-1" is progressing.')
    assert began.changes_at == NOW + timedelta(seconds=DEADLINE)

    current.status.available_replicas = 3
    ended = observe(follow(wanted, began), current, [current], NOW)

    assert ended.complete
    assert told(ended, "Progressing") == (
        "True",
        "NewReplicaSetAvailable",
        'ReplicaSet "web-1" has successfully progressed.',
    )
    assert ended.changes_at is None


def test_a_rollout_that_stands_still_for_the_deadline_is_late_and_every_pod_begins_it_anew() -> None:
    wanted = deployment()
    current = replica_set("web-1", 3, 0)
    follow(wanted, observe(wanted, current, [current], NOW))
    later = NOW + timedelta(seconds=DEADLINE - 1)
    current.status.available_replicas = 1
    got_on = observe(wanted, current, [current], later)
    assert got_on.changes_at == later + timedelta(seconds=DEADLINE)

    late = observe(follow(wanted, got_on), current, [current], later + timedelta(seconds=DEADLINE))

    assert told(late, "Progressing") == (
        "False",
        "ProgressDeadlineExceeded",
        'ReplicaSet "web-1" has timed out progressing.',
    )


def test_a_pod_that_fails_after_the_rollout_makes_no_new_rollout() -> None:
    wanted = deployment()
    current = replica_set("web-1", 3, 3)
    follow(wanted, observe(wanted, current, [current], NOW))
    current.status.available_replicas = 2

    after = observe(wanted, current, [current], NOW + timedelta(days=1))

    assert told(after, "Progressing")[1] == "NewReplicaSetAvailable"
    assert told(after, "Available")[0] == "False"


def test_a_new_template_begins_a_rollout_and_a_pause_stops_its_clock() -> None:
    wanted = deployment()
    old, new = replica_set("web-1", 3, 3), replica_set("web-2", 1, 0)
    follow(wanted, observe(wanted, old, [old], NOW))

    begun = observe(wanted, new, [old, new], NOW)
    assert told(begun, "Progressing")[2] == 'ReplicaSet "web-2" is progressing.'

    wanted.spec.paused = True
    paused = observe(follow(wanted, begun), new, [old, new], NOW + timedelta(days=1))
    assert told(paused, "Progressing")[:2] == ("Unknown", "DeploymentPaused")
    assert paused.changes_at is None


def test_an_unchanged_state_gives_an_unchanged_status() -> None:
    wanted = deployment()
    current = replica_set("web-1", 3, 3)
    follow(wanted, observe(wanted, current, [current], NOW))

    assert observe(wanted, current, [current], NOW + timedelta(hours=1)).status == wanted.status
