"""Which objects an owner has, takes and lets go."""

from __future__ import annotations

from controlplane.controllers.ownership import claim
from podwire import v1
from podwire.selectors import LabelSelector

SELECTOR = LabelSelector.parse("app=web")


def pod(name: str, *, app: str = "web", owner: str = "", terminating: bool = False) -> v1.Pod:
    made = v1.Pod(metadata=v1.ObjectMeta(name=name, labels={"app": app}))
    if owner:
        made.metadata.owner_references.add(uid=owner, controller=True)
    if terminating:
        made.metadata.deletion_timestamp.GetCurrentTime()
    return made


def names(pods: list[v1.Pod]) -> list[str]:
    return [one.metadata.name for one in pods]


def test_an_owner_keeps_its_own_takes_orphans_and_lets_go_what_matches_no_more() -> None:
    owner = v1.ReplicaSet(metadata=v1.ObjectMeta(uid="me"))

    claims = claim(
        owner,
        SELECTOR,
        [
            pod("mine", owner="me"),
            pod("theirs", owner="you"),
            pod("orphan"),
            pod("dying orphan", terminating=True),
            pod("stranger", app="db"),
            pod("relabelled", app="db", owner="me"),
        ],
    )

    assert names(claims.owned) == ["mine"]
    assert names(claims.adopt) == ["orphan"]
    assert names(claims.release) == ["relabelled"]


def test_an_owner_that_is_being_deleted_takes_nothing() -> None:
    owner = v1.ReplicaSet(metadata=v1.ObjectMeta(uid="me"))
    owner.metadata.deletion_timestamp.GetCurrentTime()

    assert not claim(owner, SELECTOR, [pod("orphan")]).adopt
