"""Rollouts: single steps as a table, and whole rollouts against a simulated replica set controller."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.controllers.rollout import HASH_LABEL, REVISION, Limits, limits, plan, superfluous, template_hash
from podwire import v1


def share(value: int | str) -> v1.IntOrString:
    return v1.IntOrString(int=value) if isinstance(value, int) else v1.IntOrString(string=value)


def deployment(
    replicas: int = 3,
    image: str = "web:1",
    *,
    surge: int | str = "25%",
    unavailable: int | str = "25%",
    strategy: str = "RollingUpdate",
    history: int = 10,
    paused: bool = False,
) -> v1.Deployment:
    labels = {"app": "web"}
    return v1.Deployment(
        metadata=v1.ObjectMeta(name="web", namespace="default", uid="uid-web"),
        spec=v1.DeploymentSpec(
            replicas=replicas,
            revision_history_limit=history,
            paused=paused,
            selector=v1.LabelSelector(match_labels=labels),
            template=v1.PodTemplateSpec(
                metadata=v1.ObjectMeta(labels=labels), spec=v1.PodSpec(containers=[v1.Container(image=image)])
            ),
            strategy=v1.DeploymentStrategy(
                type=strategy,
                rolling_update=v1.RollingUpdateDeployment(max_surge=share(surge), max_unavailable=share(unavailable)),
            ),
        ),
    )


def replica_set(
    image: str, replicas: int, available: int | None = None, *, revision: int = 1, age: int = 0
) -> v1.ReplicaSet:
    """As the deployment above makes it for `image`."""
    made = plan(deployment(image=image), [], old_pods=False).create
    assert made is not None
    made.metadata.uid = f"uid-{image}"
    made.metadata.creation_timestamp.CopyFrom(Timestamp(seconds=1000 - age))
    made.metadata.annotations[REVISION] = str(revision)
    made.spec.replicas = replicas
    made.status.replicas = replicas
    made.status.available_replicas = replicas if available is None else available
    return made


def sizes(step_of: v1.Deployment, owned: list[v1.ReplicaSet], *, old_pods: bool = True) -> dict[str, int]:
    """The size of each image's set after one step."""
    step = plan(step_of, owned, old_pods=old_pods)
    after = {one.metadata.uid: one for one in owned} | {one.metadata.uid: one for one in step.update}
    created = [step.create] if step.create is not None else []
    return {one.spec.template.spec.containers[0].image: one.spec.replicas for one in [*after.values(), *created]}


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        (3, "25%", "25%", Limits(1, 0)),
        (4, "25%", "25%", Limits(1, 1)),
        (10, "25%", "25%", Limits(3, 2)),
        (10, 2, 0, Limits(2, 0)),
        (1, "0%", "25%", Limits(0, 1)),
        (2, 0, 5, Limits(0, 2)),
    ],
)
def test_surge_rounds_up_and_unavailable_down(
    replicas: int, surge: int | str, unavailable: int | str, expected: Limits
) -> None:
    assert limits(deployment(replicas, surge=surge, unavailable=unavailable)) == expected


@pytest.mark.parametrize(
    ("wanted", "owned", "expected"),
    [
        pytest.param(deployment(3), [], {"web:1": 3}, id="the first set comes at full size"),
        pytest.param(deployment(5), [replica_set("web:1", 3)], {"web:1": 5}, id="scaled up"),
        pytest.param(deployment(1), [replica_set("web:1", 3)], {"web:1": 1}, id="scaled down"),
        pytest.param(
            deployment(3, "web:2"), [replica_set("web:1", 3)], {"web:1": 3, "web:2": 1}, id="the new one by the surge"
        ),
        pytest.param(
            deployment(4, "web:2"),
            [replica_set("web:1", 4)],
            {"web:1": 3, "web:2": 1},
            id="the old one shrinks at once by what may be unavailable",
        ),
        pytest.param(
            deployment(3, "web:2"),
            [replica_set("web:1", 3), replica_set("web:2", 1, 0)],
            {"web:1": 3, "web:2": 1},
            id="it waits for the new pod",
        ),
        pytest.param(
            deployment(3, "web:2"),
            [replica_set("web:1", 3), replica_set("web:2", 1)],
            {"web:1": 2, "web:2": 1},
            id="one new pod for one old",
        ),
        pytest.param(
            deployment(3, "web:2"),
            [replica_set("web:1", 3, 1)],
            {"web:1": 3, "web:2": 1},
            id="broken old pods count as little as missing ones",
        ),
        pytest.param(
            deployment(4, "web:3"),
            [replica_set("web:1", 3, age=2), replica_set("web:2", 1, 0, age=1, revision=2)],
            {"web:1": 3, "web:2": 0, "web:3": 1},
            id="a broken set on the way goes first",
        ),
        pytest.param(
            deployment(3, "web:2", paused=True), [replica_set("web:1", 3)], {"web:1": 3}, id="paused: nothing new"
        ),
        pytest.param(
            deployment(5, "web:2", paused=True),
            [replica_set("web:1", 2, age=1), replica_set("web:2", 1)],
            {"web:1": 2, "web:2": 3},
            id="paused and scaled up: the newest grows",
        ),
        pytest.param(
            deployment(1, "web:2", paused=True),
            [replica_set("web:1", 2, age=1), replica_set("web:2", 1)],
            {"web:1": 0, "web:2": 1},
            id="paused and scaled down: the oldest shrinks",
        ),
        pytest.param(
            deployment(3, "web:2", strategy="Recreate"), [replica_set("web:1", 3)], {"web:1": 0}, id="Recreate empties"
        ),
        pytest.param(
            deployment(3, "web:2", strategy="Recreate"),
            [replica_set("web:1", 0)],
            {"web:1": 0},
            id="Recreate waits for the last old pod",
        ),
    ],
)
def test_a_step_makes_the_sets(wanted: v1.Deployment, owned: list[v1.ReplicaSet], expected: dict[str, int]) -> None:
    assert sizes(wanted, owned) == expected


def test_recreate_brings_the_new_pods_when_the_old_ones_are_gone() -> None:
    wanted = deployment(3, "web:2", strategy="Recreate")

    assert sizes(wanted, [replica_set("web:1", 0)], old_pods=False) == {"web:1": 0, "web:2": 3}


def test_a_new_set_carries_the_hash_of_its_template_everywhere() -> None:
    made = plan(deployment(), [], old_pods=False).create

    assert made is not None
    name_hash = template_hash(deployment())
    assert made.metadata.name == f"web-{name_hash}"
    assert made.metadata.labels[HASH_LABEL] == name_hash
    assert made.spec.selector.match_labels == {"app": "web", HASH_LABEL: name_hash}
    assert made.spec.template.metadata.labels[HASH_LABEL] == name_hash
    assert [(owner.uid, owner.controller) for owner in made.metadata.owner_references] == [("uid-web", True)]


def test_the_hash_depends_on_the_template_alone_and_changes_when_a_stranger_has_the_name() -> None:
    again = deployment(replicas=9, history=1)
    collided = deployment()
    collided.status.collision_count = 1

    assert template_hash(again) == template_hash(deployment())
    assert template_hash(deployment(image="web:2")) != template_hash(deployment())
    assert template_hash(collided) != template_hash(deployment())


def test_a_set_with_the_same_template_is_taken_also_where_its_hash_was_made_otherwise() -> None:
    old = replica_set("web:1", 3)
    old.metadata.labels[HASH_LABEL] = "another"
    old.spec.template.metadata.labels[HASH_LABEL] = "another"

    assert plan(deployment(), [old], old_pods=False).create is None


def test_going_back_to_an_old_template_gives_its_set_a_new_revision() -> None:
    owned = [replica_set("web:1", 0, revision=1, age=1), replica_set("web:2", 3, revision=2)]

    step = plan(deployment(3, "web:1"), owned, old_pods=True)

    assert step.create is None
    assert step.revision == "3"
    back = next(one for one in step.update if one.metadata.uid == "uid-web:1")
    assert (back.metadata.annotations[REVISION], back.spec.replicas) == ("3", 1)


def test_a_finished_rollout_changes_nothing() -> None:
    step = plan(deployment(), [replica_set("web:1", 3), replica_set("web:0", 0, revision=0)], old_pods=False)

    assert (step.create, list(step.update), step.revision) == (None, [], "1")


def test_old_sets_beyond_the_limit_go_lowest_revision_first_unless_they_have_pods() -> None:
    owned = [
        replica_set("web:1", 3, revision=9),
        replica_set("web:4", 0, revision=4),
        replica_set("web:2", 0, revision=2),
        replica_set("web:3", 1, revision=3),
        replica_set("web:5", 0, revision=5),
    ]

    assert [one.metadata.uid for one in superfluous(deployment(history=1), owned)] == ["uid-web:2", "uid-web:4"]


@dataclass
class Simulated:
    """A replica set and how many of its pods are up; `broken` ones never come up."""

    replica_set: v1.ReplicaSet
    broken: bool = False

    def settle(self, chance: random.Random) -> None:
        """Some of the missing pods come up; surplus ones are gone at once."""
        size = self.replica_set.spec.replicas
        up = min(self.replica_set.status.available_replicas, size)
        self.replica_set.status.available_replicas = up if self.broken else chance.randint(up, size)
        self.replica_set.status.replicas = size


@settings(deadline=None, max_examples=200)
@given(
    replicas=st.integers(0, 12),
    surge=st.sampled_from([0, 1, 3, "25%", "100%"]),
    unavailable=st.sampled_from([0, 1, 2, "25%", "100%"]),
    seed=st.integers(0, 2**32),
    interrupted=st.booleans(),
)
def test_a_rollout_keeps_its_limits_at_every_step_and_ends(
    replicas: int, surge: int | str, unavailable: int | str, seed: int, interrupted: bool
) -> None:
    chance = random.Random(seed)
    simulated: dict[str, Simulated] = {}
    targets = ["web:1", "web:broken", "web:2"] if interrupted else ["web:1", "web:2"]
    for target in targets:
        wanted = deployment(replicas, target, surge=surge, unavailable=unavailable)
        allowed = limits(wanted)
        for _ in range(100):
            owned = [one.replica_set for one in simulated.values()]
            available = sum(min(one.status.available_replicas, one.spec.replicas) for one in owned)
            step = plan(wanted, owned, old_pods=True)
            for changed in step.update:
                simulated[changed.metadata.uid].replica_set = changed
            if step.create is not None:
                step.create.metadata.uid = target
                step.create.metadata.creation_timestamp.CopyFrom(Timestamp(seconds=len(simulated)))
                simulated[target] = Simulated(step.create, broken=target == "web:broken")
            after = [one.replica_set for one in simulated.values()]
            left = sum(min(one.status.available_replicas, one.spec.replicas) for one in after)
            assert sum(one.spec.replicas for one in after) <= replicas + allowed.surge
            assert left >= min(available, replicas - allowed.unavailable)
            for one in simulated.values():
                one.settle(chance)
        if target != "web:broken":
            ended = {uid: one.replica_set.spec.replicas for uid, one in simulated.items()}
            assert ended == {uid: replicas if uid == target else 0 for uid in simulated}
