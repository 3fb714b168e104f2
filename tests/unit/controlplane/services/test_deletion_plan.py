"""What deleting an object comes to."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from controlplane.services import deletion_plan
from controlplane.services.deletion_plan import Options, is_over
from podwire import errors, kinds, v1

NOW = Timestamp(seconds=1_000)
LATER = Timestamp(seconds=1_003)


def pod(*, finalizers: tuple[str, ...] = (), **spec: Any) -> v1.Pod:
    made = v1.Pod(metadata=v1.ObjectMeta(name="web", namespace="default", uid="u", generation=1, finalizers=finalizers))
    made.spec.CopyFrom(v1.PodSpec(termination_grace_period_seconds=30, **spec))
    return made


def deletion(obj: v1.Pod, grace: int | None = None, at: Timestamp = NOW, policy: str = "") -> Any:
    return deletion_plan.plan(kinds.POD, obj, Options(grace, policy), at)


def config_map(*finalizers: str) -> v1.ConfigMap:
    return v1.ConfigMap(metadata=v1.ObjectMeta(name="a", namespace="default", finalizers=finalizers))


def planned(obj: v1.ConfigMap, policy: str = "") -> Any:
    return deletion_plan.plan(kinds.CONFIG_MAP, obj, Options(propagation_policy=policy), NOW)


@pytest.mark.parametrize("finished", ["Succeeded", "Failed"])
def test_pods_that_run_nowhere_are_removed_at_once(finished: str) -> None:
    done = pod(node_name="n")
    done.status.phase = finished
    assert deletion(pod()) is None
    assert deletion(done) is None
    assert deletion(pod(node_name="n"), 0) is None


def test_a_running_pod_is_marked_for_its_agent() -> None:
    marked = deletion(pod(node_name="n"))
    assert marked.metadata.deletion_timestamp.seconds == NOW.seconds + 30
    assert marked.metadata.deletion_grace_period_seconds == 30
    assert marked.metadata.generation == 2


def test_a_second_deletion_can_only_shorten_the_grace() -> None:
    marked = deletion(pod(node_name="n"))
    assert deletion(marked, 60, LATER) == marked
    assert deletion(marked, None, LATER) == marked
    shorter = deletion(marked, 10, LATER)
    assert shorter.metadata.deletion_timestamp.seconds == NOW.seconds + 10
    assert deletion(shorter, 0, LATER) is None


def test_a_pod_with_finalizers_stays_marked_after_its_agent_has_stopped_it() -> None:
    marked = deletion(pod(node_name="n", finalizers=("example.com/a",)))
    assert marked.metadata.deletion_grace_period_seconds == 30
    stopped = deletion(marked, 0, LATER)
    assert stopped.metadata.deletion_grace_period_seconds == 0
    assert stopped.metadata.generation == 2
    assert not is_over(stopped)
    stopped.metadata.finalizers[:] = []
    assert is_over(stopped)


def test_a_pod_whose_finalizers_go_first_waits_for_its_agent() -> None:
    marked = deletion(pod(node_name="n", finalizers=("example.com/a",)))
    marked.metadata.finalizers[:] = []
    assert not is_over(marked)
    assert deletion(marked, 0, LATER) is None


def test_a_grace_without_end_still_gives_a_time_that_can_be_written() -> None:
    eternal = pod(node_name="n")
    eternal.spec.termination_grace_period_seconds = 2**63 - 1
    assert deletion(eternal).metadata.deletion_timestamp.ToJsonString().startswith("2038")


@pytest.mark.parametrize("options", [(-1, ""), (None, "Cascade")])
def test_options_that_mean_nothing_are_refused(options: tuple[int | None, str]) -> None:
    with pytest.raises(errors.Invalid):
        Options(*options)


def test_an_object_is_marked_while_it_has_finalizers_and_else_removed_at_once() -> None:
    assert planned(config_map()) is None
    marked = planned(config_map("example.com/a"))
    assert marked.metadata.deletion_timestamp == NOW
    assert marked.metadata.deletion_grace_period_seconds == 0
    assert marked.metadata.generation == 0
    assert planned(marked) == marked


def test_only_a_mark_makes_an_object_without_finalizers_go() -> None:
    assert not is_over(config_map())


@pytest.mark.parametrize(
    ("before", "policy", "after"),
    [
        ((), "Orphan", ["orphan"]),
        ((), "Foreground", ["foregroundDeletion"]),
        (("a/b",), "Foreground", ["a/b", "foregroundDeletion"]),
        (("orphan",), "Foreground", ["foregroundDeletion"]),
        (("foregroundDeletion",), "", ["foregroundDeletion"]),
        (("orphan", "a/b"), "Background", ["a/b"]),
    ],
)
def test_a_policy_is_a_finalizer_and_takes_the_place_of_another(
    before: tuple[str, ...], policy: str, after: list[str]
) -> None:
    assert planned(config_map(*before), policy).metadata.finalizers == after


def test_who_changes_a_foreground_deletion_to_background_does_not_wait_for_it() -> None:
    waiting = planned(config_map(), "Foreground")
    assert planned(waiting, "Background") is None


def test_events_own_nothing_that_their_deletion_could_wait_for() -> None:
    event = v1.Event(metadata=v1.ObjectMeta(name="e", namespace="default"))
    assert deletion_plan.plan(kinds.EVENT, event, Options(propagation_policy="Foreground"), NOW) is None


def test_a_namespace_is_marked_first_and_removed_by_who_emptied_it() -> None:
    namespace = v1.Namespace(metadata=v1.ObjectMeta(name="a", generation=1))
    marked = deletion_plan.plan(kinds.NAMESPACE, namespace, Options(0), NOW)
    assert marked is not None
    assert (marked.status.phase, marked.metadata.generation) == ("Terminating", 2)
    assert not is_over(marked)
    assert deletion_plan.plan(kinds.NAMESPACE, marked, Options(), NOW) == marked
    assert deletion_plan.plan(kinds.NAMESPACE, marked, Options(0), NOW) is None
    marked.metadata.finalizers.append("example.com/a")
    assert deletion_plan.plan(kinds.NAMESPACE, marked, Options(0), NOW) == marked


def test_the_default_namespace_stays() -> None:
    with pytest.raises(errors.PreconditionFailed):
        deletion_plan.plan(kinds.NAMESPACE, v1.Namespace(metadata=v1.ObjectMeta(name="default")), Options(), NOW)
