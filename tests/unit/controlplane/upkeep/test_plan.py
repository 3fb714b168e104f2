"""Which member is defragmented, and when."""

from __future__ import annotations

import pytest

from controlplane.store.api import etcd_pb2 as pb
from controlplane.store.maintenance import MemberState
from controlplane.upkeep import plan

MIB = 1024 * 1024


def member(number: int, *, size: int = 400, in_use: int = 100, leader: int = 2) -> MemberState:
    """One that answers; sizes in MiB."""
    status = pb.StatusResponse(dbSize=size * MIB, dbSizeInUse=in_use * MIB, leader=leader)
    return MemberState(number, f"etcd{number}", (), False, f"10.0.0.{number}:2379", status)


def missing(number: int) -> MemberState:
    return MemberState(number, f"etcd{number}", (), False, "", None, "no answer")


@pytest.mark.parametrize(
    ("size", "in_use", "worth"),
    [
        (400, 100, True),
        (2048, 1000, True),
        # Most of the file is used.
        (2048, 1500, False),
        # What would be gained matters to no disk.
        (120, 30, False),
        (0, 0, False),
    ],
)
def test_a_member_is_defragmented_where_much_of_a_large_file_is_free(size: int, in_use: int, worth: bool) -> None:
    assert plan.worth_it(member(1, size=size, in_use=in_use)) is worth


def test_the_leader_is_the_last() -> None:
    assert [each.id for each in plan.turns([member(1), member(2), member(3)], plan.worth_it)] == [1, 3, 2]


def test_nobody_is_defragmented_while_a_member_is_missing() -> None:
    assert plan.turns([member(1), member(2), missing(3)], plan.worth_it) == []


def test_nobody_is_defragmented_without_a_leader() -> None:
    assert plan.turns([member(number, leader=0) for number in (1, 2, 3)], plan.worth_it) == []


def test_what_one_member_needs_is_no_reason_to_trouble_another() -> None:
    members = [member(1, in_use=390), member(2), member(3, in_use=390)]

    assert [each.id for each in plan.turns(members, plan.worth_it)] == [2]


@pytest.mark.parametrize(
    ("tried_at", "freed_since", "due"),
    [
        (None, False, True),
        # Something was deleted, but a moment ago.
        (980.0, True, False),
        (970.0, True, True),
        # Nothing has changed that is known of.
        (970.0, False, False),
        (700.0, False, True),
    ],
)
def test_room_is_made_at_once_then_when_something_was_given_up_and_else_rarely(
    tried_at: float | None, freed_since: bool, due: bool
) -> None:
    assert plan.relief_due(1_000.0, tried_at=tried_at, freed_since=freed_since) is due
