"""The checker itself: histories that are right, histories that are wrong, and those where only time can tell."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from pathlib import Path

import pytest

from tests.linearizability.checker import disorders, judge, violations
from tests.linearizability.history import Content, Operation, Outcome, Verb, load, save
from tests.linearizability.object_model import ABSENT, State, step


def op(verb: str, called: int, returned: int, outcome: str = "done", **more: object) -> Operation:
    """An operation of the object `a`; what it finds is `found=(born, count, tag, revision)`."""
    found = more.pop("found", None)
    if found is not None:
        assert isinstance(found, tuple)
        *content, revision = found
        more |= {"found": Content(*content), "uid": f"uid-{content[0]}", "revision": revision}
    made = Operation(client=0, key="a", verb=Verb(verb), called=called, returned=returned, outcome=Outcome(outcome))
    return replace(made, **more)  # type: ignore[arg-type]


def create(called: int, returned: int, mark: str = "x", revision: int = 10) -> Operation:
    return op("create", called, returned, mark=mark, found=(mark, 0, "", revision))


def read(called: int, returned: int, count: int, revision: int, born: str = "x", tag: str = "") -> Operation:
    return op("get", called, returned, found=(born, count, tag, revision))


def increment(called: int, returned: int, count: int, revision: int, born: str = "x") -> Operation:
    """From `count` to one more."""
    return op("increment", called, returned, expected=Content(born, count, ""), found=(born, count + 1, "", revision))


def lost_increment(called: int, count: int, born: str = "x") -> Operation:
    return op("increment", called, called + 1, "unknown", expected=Content(born, count, ""))


def delete(called: int, returned: int, count: int, revision: int, born: str = "x") -> Operation:
    return op("delete", called, returned, found=(born, count, "", revision))


RIGHT = {
    "one after the other": [create(0, 1), read(2, 3, 0, 10), increment(4, 5, 0, 11), read(6, 7, 1, 11)],
    "a read beside a write sees the old": [
        create(0, 1),
        increment(2, 9, 0, 11),
        read(3, 4, 0, 10),
        read(10, 11, 1, 11),
    ],
    "a read beside a write sees the new": [create(0, 1), increment(2, 9, 0, 11), read(3, 4, 1, 11)],
    "reads beside a write see it one after the other": [
        create(0, 1),
        increment(2, 20, 0, 11),
        read(3, 6, 0, 10),
        read(5, 8, 1, 11),
        read(7, 12, 1, 11),
    ],
    "an unknown write that happened": [create(0, 1), lost_increment(2, 0), read(9, 10, 0, 10), read(11, 12, 1, 11)],
    "an unknown write that did not": [create(0, 1), lost_increment(2, 0), read(9, 10, 0, 10)],
    "an unknown write that happens much later": [
        create(0, 1),
        lost_increment(2, 1),
        increment(5, 6, 0, 11),
        read(90, 91, 2, 14),
    ],
    "an unknown write that nobody saw but a refusal": [
        create(0, 1),
        op("tag", 2, 3, "unknown", mark="t"),
        op("increment", 4, 5, "conflict", expected=Content("x", 0, "")),
    ],
    "an unknown deletion before a new object": [
        create(0, 1),
        op("delete", 2, 3, "unknown"),
        op("get", 4, 5, "absent"),
        create(6, 7, "y", 14),
    ],
    "an unknown create that exists": [
        op("create", 0, 1, "unknown", mark="x"),
        op("create", 2, 3, "exists", mark="y"),
        read(4, 5, 0, 10),
    ],
    "one of two equal updates is refused": [
        create(0, 1),
        increment(2, 9, 0, 11),
        op("increment", 3, 8, "conflict", expected=Content("x", 0, "")),
    ],
    "a test of the count alone": [
        create(0, 1),
        op("tag", 2, 3, mark="t", found=("x", 0, "t", 11)),
        op("test", 4, 5, expected=Content("x", 0, ""), found=("x", 1, "t", 12)),
    ],
}

WRONG = {
    "a stale read": [create(0, 1), increment(2, 3, 0, 11), read(4, 5, 0, 10)],
    "a read that goes back while a write goes on": [
        create(0, 1),
        increment(2, 20, 0, 11),
        read(3, 6, 1, 11),
        read(7, 8, 0, 10),
    ],
    "a lost update": [create(0, 1), increment(2, 9, 0, 11), increment(3, 8, 0, 12)],
    "an update that was said to have happened and had not": [
        create(0, 1),
        increment(2, 3, 0, 11),
        increment(4, 5, 1, 12),
        read(6, 7, 1, 11),
    ],
    "a deleted object that comes back": [create(0, 1), delete(2, 3, 0, 11), read(4, 5, 0, 10)],
    "a deletion that two are told of": [create(0, 1), delete(2, 9, 0, 11), delete(3, 8, 0, 11)],
    "a deletion that shows another state": [create(0, 1), increment(2, 3, 0, 11), delete(4, 5, 0, 12)],
    "two creates of one name": [create(0, 9, "x", 10), create(1, 8, "y", 11)],
    "a create refused with nothing there": [op("create", 0, 1, "exists", mark="x")],
    "an update refused without reason": [
        create(0, 1),
        op("increment", 2, 3, "conflict", expected=Content("x", 0, "")),
    ],
    "an object not found that is there": [create(0, 1), op("get", 2, 3, "absent"), read(4, 5, 0, 10)],
    "a write of which nobody had heard": [create(0, 1), read(2, 3, 1, 11)],
    "an unknown write that happens twice": [
        create(0, 1),
        lost_increment(2, 0),
        read(4, 5, 1, 11),
        increment(6, 7, 1, 12),
        read(8, 9, 3, 13),
    ],
    "an unknown write that happens before its call": [create(0, 1), read(2, 3, 1, 11), lost_increment(4, 0)],
    "a revision that goes back": [create(0, 1), increment(2, 3, 0, 9)],
    "a deletion without a revision": [create(0, 1), delete(2, 3, 0, 0)],
}


@pytest.mark.parametrize("history", RIGHT.values(), ids=RIGHT)
def test_a_history_that_has_an_order_is_right(history: list[Operation]) -> None:
    assert not violations(history)
    assert not disorders(history)


@pytest.mark.parametrize("history", WRONG.values(), ids=WRONG)
def test_a_history_that_has_none_is_wrong(history: list[Operation]) -> None:
    (violation,) = violations(history)
    assert violation.stuck
    assert "is not linearizable" in str(violation)


def test_what_is_wrong_with_one_object_is_found_among_others() -> None:
    right = [replace(operation, key="b") for operation in RIGHT["one after the other"]]
    assert [violation.key for violation in violations([*right, *WRONG["a stale read"]])] == ["a"]


@pytest.mark.parametrize(
    "history",
    [
        [create(0, 1), replace(read(2, 3, 0, 10), uid="another")],
        [create(0, 1), replace(create(2, 3, "y", 11), key="b", uid="uid-x")],
        [create(0, 1), read(2, 3, 1, 10)],
        [create(0, 1), read(2, 3, 0, 11)],
        [create(0, 1, "x", 10), replace(create(2, 3, "y", 9), key="b")],
    ],
    ids=[
        "one create, two objects",
        "two creates, one object",
        "one revision, two states",
        "one state, two revisions",
        "of two objects' writes the later has the earlier revision",
    ],
)
def test_revisions_and_uids_are_held_against_each_other_and_time(history: list[Operation]) -> None:
    assert len(disorders(history)) == 1


def test_the_search_agrees_with_trying_every_order() -> None:
    """On small random histories, right and wrong ones."""
    chance = random.Random(1)
    verdicts = []
    for _ in range(400):
        history = _random_history(chance)
        verdict = judge("a", history) is None
        assert verdict == _has_an_order(history), "\n".join(map(str, history))
        verdicts.append(verdict)
    assert 40 < sum(verdicts) < 360


def _random_history(chance: random.Random) -> list[Operation]:
    """One that happened, then answered at random times and sometimes changed or left without an answer."""
    history: list[Operation] = []
    count, revision = 0, 10
    for number in range(5):
        called = number * 10 - chance.randrange(25)
        returned = number * 10 + chance.randrange(25)
        if number == 0:
            history.append(create(called, returned))
        elif chance.random() < 0.5:
            revision += 1
            history.append(increment(called, returned, count, revision))
            count += 1
        else:
            history.append(read(called, returned, count, revision))
    at = chance.randrange(1, len(history))
    match chance.randrange(3):
        case 0:
            history[at] = read(history[at].called, history[at].returned, max(count - 1, 0), max(revision - 1, 10))
        case 1:
            lost = history[at]
            if lost.is_write:
                history[at] = replace(lost, outcome=Outcome.UNKNOWN, found=None, revision=0)
    return history


def _has_an_order(history: list[Operation]) -> bool:
    unknown = [operation for operation in history if operation.outcome is Outcome.UNKNOWN]
    known = [operation for operation in history if operation.outcome is not Outcome.UNKNOWN]
    for size in range(len(unknown) + 1):
        for happened in itertools.combinations(unknown, size):
            if any(_fits(order) for order in itertools.permutations([*known, *happened])):
                return True
    return False


def _fits(order: tuple[Operation, ...]) -> bool:
    state: State | None = ABSENT
    latest_call = -1_000
    for operation in order:
        if operation.outcome is not Outcome.UNKNOWN and operation.returned < latest_call:
            return False
        latest_call = max(latest_call, operation.called)
        assert state is not None
        state = step(state, operation)
        if state is None:
            return False
    return True


def test_many_unknown_outcomes_do_not_make_the_search_endless() -> None:
    history = [create(0, 1)]
    for count in range(50):
        at = 10 * (count + 1)
        history += [op("tag", at, at + 1, "unknown", mark=f"t{count}"), increment(at + 5, at + 6, count, 20 + count)]
        history.append(op("delete", at + 2, at + 3, "unknown"))
    assert judge("a", history) is None
    history.append(read(9_000, 9_001, 1, 20))
    assert judge("a", history) is not None


def test_a_history_is_the_same_after_it_was_kept(tmp_path: Path) -> None:
    history = [operation for some in (*RIGHT.values(), *WRONG.values()) for operation in some]
    save(history, tmp_path / "history.jsonl.xz")
    assert load(tmp_path / "history.jsonl.xz") == history
