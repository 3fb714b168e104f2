"""What becomes of an object, given what has become of its owners."""

from __future__ import annotations

import pytest

from controlplane.controllers import dependents
from controlplane.controllers.dependents import Delete, Detach, Keep, OwnerState, Step
from podwire import v1

GONE, HERE, WAITING = OwnerState.GONE, OwnerState.PRESENT, OwnerState.WAITING
A, B = v1.OwnerReference(name="a", uid="1", block_owner_deletion=True), v1.OwnerReference(name="b", uid="2")


@pytest.mark.parametrize(
    ("states", "owns", "step"),
    [
        ([HERE, HERE], False, Keep()),
        ([HERE, GONE], False, Detach([A])),
        ([WAITING, HERE], True, Detach([B])),
        ([GONE, GONE], True, Delete("")),
        ([WAITING, GONE], False, Delete("")),
        ([WAITING, GONE], True, Delete("Foreground")),
    ],
)
def test_an_object_goes_when_no_owner_is_left(states: list[OwnerState], owns: bool, step: Step) -> None:
    assert dependents.step_for([A, B], states, owns=owns) == step


def test_only_a_reference_that_blocks_is_waited_for_and_a_circle_is_broken_by_unblocking() -> None:
    pod = v1.Pod(metadata=v1.ObjectMeta(owner_references=[A, B]))
    assert dependents.blocks(pod, "1")
    assert not dependents.blocks(pod, "2")
    freed = v1.Pod(metadata=v1.ObjectMeta(owner_references=dependents.unblocking(pod)))
    assert [ref.uid for ref in freed.metadata.owner_references] == ["1", "2"]
    assert not dependents.blocks(freed, "1")
    assert dependents.without(pod, "1") == [B]


def test_an_owner_waits_only_while_it_is_being_deleted() -> None:
    owner = v1.Pod(metadata=v1.ObjectMeta(finalizers=["foregroundDeletion"]))
    assert dependents.state_of(owner) is HERE
    owner.metadata.deletion_timestamp.seconds = 1
    assert dependents.state_of(owner) is WAITING
    assert not dependents.is_orphaning(owner)
