"""Is a history linearizable: is there an order of its operations, one that agrees with time, in which each got the
answer that the specification gives?

The search is Wing and Gong's with Lowe's memory of what was tried ("Testing for linearizability", 2017): take any
operation that was called before the first remaining answer, do it, go on, and go back where nothing fits; the same set
of operations done with the same state is looked at once. Linearizability is local, so each object is judged alone.

An operation of unknown outcome has no answer that others must wait for: it may be done at any time after its call, or
not at all. It need only be done where what follows directly would not come to the same without it, which keeps many of
them from making the search endless.

The store's revisions are one more order, which needs no search: `disorders` compares it with time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tests.linearizability.history import Content, Operation, Outcome, by_key
from tests.linearizability.object_model import ABSENT, State, step

# Far beyond what a history of some thousand operations needs; a search that gets there has not shown anything.
_LIMIT: Final = 5_000_000


class UndecidedError(Exception):
    """The search was given up."""


@dataclass(frozen=True, slots=True)
class Violation:
    """An object whose history has no order. `done` is the longest one that was found, `stuck` what could not follow."""

    key: str
    done: Sequence[Operation]
    state: State
    stuck: Sequence[Operation]

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.key} is not linearizable: after",
                *(f"  {operation}" for operation in self.done[-12:]),
                f"it is {self.state}, and none of these can be next:",
                *(f"  {operation}" for operation in self.stuck),
            ]
        )


def violations(history: Iterable[Operation]) -> list[Violation]:
    """The objects whose histories are not linearizable."""
    judged = (judge(key, operations) for key, operations in by_key(history).items())
    return [violation for violation in judged if violation is not None]


class _Entry:
    """A call or an answer, in a list of both in the order of time."""

    __slots__ = ("answer", "following", "number", "preceding")

    def __init__(self, number: int) -> None:
        self.number = number
        # Of a call: its answer's entry, or None where there was no answer.
        self.answer: _Entry | None = None
        self.preceding: _Entry | None = None
        self.following: _Entry | None = None

    def remove(self) -> None:
        assert self.preceding is not None
        self.preceding.following = self.following
        if self.following is not None:
            self.following.preceding = self.preceding

    def put_back(self) -> None:
        assert self.preceding is not None
        self.preceding.following = self
        if self.following is not None:
            self.following.preceding = self


def judge(
    key: str, operations: Sequence[Operation], specification: Callable[[State, Operation], State | None] = step
) -> Violation | None:
    """The violation in the history of one object, if there is one."""
    head, calls = _entries(operations)
    state, done = ABSENT, 0
    # Before the last operation, where its outcome is unknown.
    earlier: State | None = None
    path: list[tuple[_Entry, State, State | None]] = []
    tried: set[tuple[int, State, State | None]] = set()
    longest: list[int] = []
    longest_state = state
    entry = head.following
    while entry is not None:
        if entry in calls:
            number = entry.number
            operation = operations[number]
            after = specification(state, operation)
            if after is not None and earlier is not None and specification(earlier, operation) == after:
                after = None
            unknown = operation.outcome is Outcome.UNKNOWN
            if after is not None and (reached := (done | 1 << number, after, state if unknown else None)) not in tried:
                tried.add(reached)
                if len(tried) > _LIMIT:
                    raise UndecidedError(f"{key}: {len(operations)} operations are too much for the search")
                path.append((entry, state, earlier))
                done, state, earlier = reached
                _lift(entry)
                if len(path) > len(longest):
                    longest, longest_state = [taken.number for taken, _, _ in path], state
                entry = head.following
            else:
                entry = entry.following
        elif path:
            # An answer whose operation has not been done: something before it was wrong.
            last, state, earlier = path.pop()
            done &= ~(1 << last.number)
            _lower(last)
            entry = last.following
        else:
            return _violation(key, operations, longest, longest_state)
    return None


def _entries(operations: Sequence[Operation]) -> tuple[_Entry, set[_Entry]]:
    """The head of the list, and which of its entries are calls."""
    moments: list[tuple[int, int, _Entry]] = []
    calls: set[_Entry] = set()
    for number, operation in enumerate(operations):
        call = _Entry(number)
        calls.add(call)
        # A call and an answer of one moment may have been in either order: the call counts as the earlier.
        moments.append((operation.called, 0, call))
        if operation.outcome is not Outcome.UNKNOWN:
            call.answer = _Entry(number)
            moments.append((operation.returned, 1, call.answer))
    moments.sort(key=lambda moment: moment[:2])
    head = last = _Entry(-1)
    for _, _, entry in moments:
        last.following, entry.preceding = entry, last
        last = entry
    return head, calls


def _lift(call: _Entry) -> None:
    call.remove()
    if call.answer is not None:
        call.answer.remove()


def _lower(call: _Entry) -> None:
    if call.answer is not None:
        call.answer.put_back()
    call.put_back()


def _violation(key: str, operations: Sequence[Operation], longest: Sequence[int], state: State) -> Violation:
    left = [operation for number, operation in enumerate(operations) if number not in set(longest)]
    first_answer = min(operation.returned for operation in left if operation.outcome is not Outcome.UNKNOWN)
    stuck = [operation for operation in left if operation.called <= first_answer]
    return Violation(key, [operations[number] for number in longest], state, stuck)


def disorders(history: Sequence[Operation]) -> list[str]:
    """Where revisions and uids contradict each other or time; empty where all is well."""
    found: list[str] = []
    states: dict[tuple[str, int], Content] = {}
    revisions: dict[tuple[str, Content], int] = {}
    uids: dict[str, str] = {}
    borns: dict[str, str] = {}
    for operation in history:
        if operation.found is None:
            continue
        if uids.setdefault(operation.found.born, operation.uid) != operation.uid:
            found.append(f"one create made two objects: {operation}")
        if borns.setdefault(operation.uid, operation.found.born) != operation.found.born:
            found.append(f"two creates made one object: {operation}")
        if operation.verb == "delete":
            continue
        if states.setdefault((operation.key, operation.revision), operation.found) != operation.found:
            found.append(f"one revision, two states: {operation}")
        if revisions.setdefault((operation.key, operation.found), operation.revision) != operation.revision:
            found.append(f"one state, two revisions: {operation}")
    found += _against_time(history)
    return found


def _against_time(history: Sequence[Operation]) -> list[str]:
    """Of writes, of any objects: one that was called when another had been answered has the later revision."""
    writes = [operation for operation in history if operation.is_write and operation.outcome is Outcome.DONE]
    answered = sorted(writes, key=lambda operation: operation.returned)
    found: list[str] = []
    latest = at = 0
    for write in sorted(writes, key=lambda operation: operation.called):
        while at < len(answered) and answered[at].returned < write.called:
            latest = max(latest, answered[at].revision)
            at += 1
        if write.revision <= latest:
            found.append(f"a write after revision {latest} had been answered has an earlier one: {write}")
    return found
