"""A controller sees its own writes before its informer does."""

from __future__ import annotations

from typing import cast

from controlplane.controllers.own_writes import OwnWrites
from podwire import v1
from podwire.client import Informer
from podwire.keys import key_of


class Picture:
    """What `OwnWrites` reads of an informer, at a revision of the test's choice."""

    def __init__(self) -> None:
        self.resource_version = ""
        self.epoch = "first"
        self.objects: dict[str, v1.Pod] = {}

    def get(self, key: str) -> v1.Pod | None:
        return self.objects.get(key)

    def show(self, revision: int, *pods: v1.Pod) -> None:
        self.resource_version = str(revision)
        self.objects = {key_of(pod): pod for pod in pods}


def pod(name: str, revision: int, *, uid: str = "", app: str = "web", terminating: bool = False) -> v1.Pod:
    made = v1.Pod(
        metadata=v1.ObjectMeta(
            name=name, namespace="default", uid=uid or name, resource_version=str(revision), labels={"app": app}
        )
    )
    if terminating:
        made.metadata.deletion_timestamp.GetCurrentTime()
    return made


def view() -> tuple[Picture, OwnWrites[v1.Pod]]:
    picture = Picture()
    return picture, OwnWrites(cast("Informer[v1.Pod]", picture))


def web(picture: Picture, own: OwnWrites[v1.Pod]) -> dict[str, int]:
    """name -> revision of the pods labelled app=web."""
    seen = [one for one in picture.objects.values() if one.metadata.labels["app"] == "web"]
    merged = own.over(seen, lambda one: one.metadata.labels["app"] == "web")
    return {one.metadata.name: int(one.metadata.resource_version) for one in merged}


def test_what_was_created_is_there_before_the_informer_shows_it() -> None:
    picture, own = view()
    picture.show(10)
    own.wrote(pod("a", 11))

    assert web(picture, own) == {"a": 11}
    assert own.get("default/a") is not None


def test_what_was_created_and_is_gone_when_the_informer_gets_there_is_gone() -> None:
    picture, own = view()
    own.wrote(pod("a", 11))
    picture.show(12)

    assert web(picture, own) == {}


def test_the_informer_wins_when_it_has_caught_up() -> None:
    picture, own = view()
    picture.show(10, pod("a", 9))
    own.wrote(pod("a", 11))
    assert web(picture, own) == {"a": 11}

    picture.show(15, pod("a", 14))
    assert web(picture, own) == {"a": 14}


def test_what_was_changed_to_belong_to_nobody_belongs_to_nobody() -> None:
    picture, own = view()
    picture.show(10, pod("a", 9))
    own.wrote(pod("a", 11, app="released"))

    assert web(picture, own) == {}


def test_what_was_deleted_is_gone_at_once_but_not_its_successor() -> None:
    picture, own = view()
    picture.show(10, pod("a", 9, uid="first"), pod("b", 8))
    own.deleted(pod("a", 9, uid="first"))
    assert web(picture, own) == {"b": 8}

    picture.show(12, pod("a", 12, uid="second"), pod("b", 8))
    assert web(picture, own) == {"a": 12, "b": 8}


def test_what_was_deleted_before_the_informer_saw_it_come_stays_deleted() -> None:
    picture, own = view()
    picture.show(10)
    own.wrote(pod("a", 11))
    own.deleted(pod("a", 11))
    assert web(picture, own) == {}

    picture.show(11, pod("a", 11))
    assert web(picture, own) == {}
    picture.show(12, pod("a", 12, terminating=True))
    assert web(picture, own) == {"a": 12}


def test_another_history_ends_what_was_known_of_the_old_one() -> None:
    picture, own = view()
    picture.show(100)
    own.over([], lambda one: True)
    own.wrote(pod("a", 101))
    picture.epoch = "restored"
    picture.show(5)

    assert web(picture, own) == {}
