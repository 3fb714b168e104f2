"""What may be compacted: only what this process itself has seen to be old enough."""

from __future__ import annotations

from controlplane.upkeep.history import History

EPOCH = b"first"


def history(*seen: tuple[float, int], epoch: bytes = EPOCH) -> History:
    made = History(300.0)
    for at, revision in seen:
        made.observe(epoch, revision, at)
    return made


def test_who_has_just_begun_knows_of_nothing_old() -> None:
    assert history((0.0, 900)).old_enough(299.0) == 0


def test_a_revision_is_old_when_it_was_seen_that_long_ago() -> None:
    assert history((0.0, 900)).old_enough(300.0) == 900


def test_the_newest_of_the_old_ones_counts() -> None:
    seen = history((0.0, 10), (60.0, 20), (120.0, 30), (400.0, 40))

    assert seen.old_enough(400.0) == 20
    assert seen.old_enough(420.0) == 30


def test_looks_in_quick_succession_leave_few_marks_and_history_is_kept_a_tenth_longer_at_most() -> None:
    seen = History(300.0)
    for second in range(10_000):
        seen.observe(EPOCH, second, float(second))

    assert len(seen._marks) <= 12
    assert 9_999 - 330 <= seen.old_enough(9_999.0) <= 9_999 - 300


def test_a_restored_store_has_no_past() -> None:
    assert history((0.0, 900), (100.0, 20)).old_enough(350.0) == 0

    seen = history((0.0, 900))
    seen.observe(b"second", 950, 100.0)
    assert seen.old_enough(350.0) == 0
    assert seen.old_enough(400.0) == 950
