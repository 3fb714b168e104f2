"""What one object does when one operation after another is done to it: the specification that histories are held to."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.linearizability.history import Content, Operation, Outcome, Verb


@dataclass(frozen=True, slots=True)
class State:
    """The object, or None while there is none; `revision` is the latest that an answer about it has named."""

    content: Content | None = None
    revision: int = 0


ABSENT = State()


def step(state: State, operation: Operation) -> State | None:
    """The state after `operation`, or None where it cannot have been done in this state with that answer.

    One of unknown outcome is done here only where it has an effect: not to have happened is another matter.
    """
    if operation.outcome in (Outcome.DONE, Outcome.UNKNOWN):
        return _done(state, operation)
    return state if _refused(state.content, operation) else None


def _done(state: State, operation: Operation) -> State | None:
    before = state.content
    match operation.verb:
        case Verb.GET:
            seen = before is not None and operation.found == before and operation.revision >= state.revision
            return State(before, operation.revision) if seen else None
        case Verb.CREATE:
            return _written(state, operation, Content(operation.mark, 0, "")) if before is None else None
        case _ if before is None or not _as_expected(before, operation):
            return None
        case Verb.TAG:
            return _written(state, operation, replace(before, tag=operation.mark))
        case Verb.DELETE:
            if operation.outcome is Outcome.DONE and operation.found != before:
                return None
            return _advanced(state, operation, None)
        case _:
            return _written(state, operation, replace(before, count=before.count + 1))


def _written(state: State, operation: Operation, after: Content) -> State | None:
    if operation.outcome is Outcome.DONE and operation.found != after:
        return None
    return _advanced(state, operation, after)


def _advanced(state: State, operation: Operation, after: Content | None) -> State | None:
    if operation.outcome is Outcome.UNKNOWN:
        return State(after, state.revision)
    return State(after, operation.revision) if operation.revision > state.revision else None


def _refused(before: Content | None, operation: Operation) -> bool:
    match operation.outcome:
        case Outcome.ABSENT:
            return before is None and operation.verb is not Verb.CREATE
        case Outcome.EXISTS:
            return before is not None and operation.verb is Verb.CREATE
        case _:
            return before is not None and not _as_expected(before, operation)


def _as_expected(before: Content, operation: Operation) -> bool:
    if operation.expected is None:
        return True
    if operation.verb is Verb.TEST_AND_INCREMENT:
        return before.count == operation.expected.count
    return before == operation.expected
