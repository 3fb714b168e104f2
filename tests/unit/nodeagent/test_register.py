"""Which try belongs to which attempt."""

from collections.abc import Iterator

import pytest

from nodeagent import labels
from nodeagent.containerd.records import Record
from nodeagent.model import ContainerId, PodUid, Role
from nodeagent.register import SANDBOX, Register

UID = PodUid("uid")


class Listing:
    """Records that can be listed, and how often they were."""

    def __init__(self, *records: Record) -> None:
        self.records = records
        self.lists = 0

    async def list(self, *filters: str) -> tuple[Record, ...]:
        assert filters == (labels.selector(UID),)
        self.lists += 1
        return self.records


def record(id: str, role: Role, attempt: int, name: str = "") -> Record:
    found = {labels.POD_UID: UID, labels.ROLE: role, labels.ATTEMPT: str(attempt), labels.CONTAINER: name}
    return Record(id=id, labels=found)


def register(listing: Listing) -> Register:
    names: Iterator[str] = iter("abcdef")
    return Register(listing, lambda: next(names))  # type: ignore[arg-type]


async def test_containers_and_their_sandbox_agree_on_its_name_before_it_is_made() -> None:
    made = register(Listing())
    assert made.sandbox(UID, 0) == made.sandbox(UID, 0) == "uid-s0-a"
    assert made.sandbox(UID, 1) == "uid-s1-b"


async def test_a_name_is_not_used_again_after_a_failure() -> None:
    made = register(Listing())
    first = made.sandbox(UID, 0)
    made.add(UID, SANDBOX, 0, first)
    assert await made.tries(UID, SANDBOX, 0) == (first,)
    made.drop(UID, first)
    assert await made.tries(UID, SANDBOX, 0) == ()
    assert made.sandbox(UID, 0) != first


@pytest.mark.parametrize(
    ("name", "attempt", "found"), [(SANDBOX, 2, ("old-s2",)), ("web", 1, ("old-web",)), ("web", 0, ())]
)
async def test_what_an_agent_before_this_one_left_is_found(name: str, attempt: int, found: tuple[str, ...]) -> None:
    listing = Listing(record("old-s2", Role.SANDBOX, 2), record("old-web", Role.APP, 1, "web"))
    made = register(listing)
    assert await made.tries(UID, name, attempt) == found
    assert made.sandbox(UID, 2) == "old-s2"


async def test_a_pod_is_listed_once_and_not_at_all_where_it_was_observed() -> None:
    listing = Listing()
    made = register(listing)
    for _ in range(3):
        await made.tries(UID, "web", 0)
    assert listing.lists == 1
    observed = register(listing)
    observed.saw(UID, [record("seen", Role.SANDBOX, 0)])
    assert await observed.tries(UID, SANDBOX, 0) == (ContainerId("seen"),)
    everything = register(listing)
    everything.saw_all()
    assert await everything.tries(UID, "web", 0) == ()
    assert listing.lists == 1


async def test_of_a_removed_pod_nothing_is_remembered() -> None:
    listing = Listing()
    made = register(listing)
    made.add(UID, "web", 0, ContainerId("x"))
    made.drop_pod(UID)
    assert await made.tries(UID, "web", 0) == ()
