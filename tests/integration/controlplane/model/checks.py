"""What must hold of every run, whatever its clients did and in whichever order it happened."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from podwire.client import BOOKMARK, DELETED
from podwire.kinds import Kind
from tests.integration.controlplane.model.facts import Facts, ImpossibleError, Request, after, facts_of
from tests.integration.controlplane.model.running import Observed, Run
from tests.integration.controlplane.model.truth import Seen, Truth


def check_run(run: Run) -> None:
    check_identities(run.truth)
    check_writes(run)
    for listed in run.lists:
        expected = run.truth.state(listed.kind, listed.revision, listed.selection)
        assert listed.items == expected, f"a list of {listed.kind.plural} {listed.selection} at {listed.revision}"
    for watch in run.watches:
        check_watch(run.truth, watch)


def check_identities(truth: Truth) -> None:
    """Revisions of a key only grow, a uid stays with its object, and never comes back."""
    latest: dict[tuple[Kind, str], int] = defaultdict(int)
    uids: set[str] = set()
    for change in truth.changes:
        assert change.revision > latest[change.kind, change.name]
        latest[change.kind, change.name] = change.revision
        if change.new is None:
            continue
        uid = change.new.metadata.uid
        if change.old is None:
            assert uid not in uids, f"{change.kind.singular} {change.name} has come back at {change.revision}"
            uids.add(uid)
        else:
            assert uid == change.old.metadata.uid


def check_writes(run: Run) -> None:
    """Every change was made by exactly one request, which saw the very state that it replaced.

    Several requests may name one revision: then all but one of them changed nothing.
    """
    answered: defaultdict[tuple[Kind, str, int], list[Request]] = defaultdict(list)
    for request in run.requests:
        answered[request.kind, request.name, request.answered_revision].append(request)
    for change in run.truth.changes:
        requests = answered.pop((change.kind, change.name, change.revision), [])
        before, result = _facts(change.old), _facts(change.new)
        writers = [request for request in requests if _makes(request, _revision(change.old), before, result)]
        idle = [request for request in requests if _makes(request, str(change.revision), result, result)]
        told = f"{change.kind.singular} {change.name} from {before} to {result} at {change.revision}: {requests}"
        assert writers, f"nobody was told of having changed {told}"
        assert any(all(other in idle for other in requests if other is not writer) for writer in writers), (
            f"somebody else was told of having changed {told}"
        )
        if change.new is not None:
            assert all(request.answer == change.new for request in requests), f"an answer shows another state: {told}"
    assert not answered, f"changes that never happened: {dict(answered)}"


def _makes(request: Request, revision: str, before: Facts | None, result: Facts | None) -> bool:
    """Whether `request`, done in the state `before`, which has that revision, gives `result`."""
    if request.revision and request.revision != revision:
        return False
    try:
        return after(before, request) == result
    except ImpossibleError:
        return False


def check_watch(truth: Truth, watch: Observed) -> None:
    """It delivered what happened after its start: all of it, once, in order, whole revisions at a time."""
    what = f"a watch of {watch.kind.plural} {watch.selection} from {watch.start}"
    events = [event for response in watch.responses for event in response]
    got = [event for event in events if event.type != BOOKMARK]
    expected = list(truth.stream(watch.kind, watch.start, watch.selection))
    assert got == expected, what
    position = watch.start
    for response in watch.responses:
        assert response[0].revision > position or response[0].type == BOOKMARK, f"{what} split a revision"
        position = response[-1].revision
    _check_bookmarks(events, what)
    _check_replay(truth, watch, got)


def _check_bookmarks(events: list[Seen], what: str) -> None:
    """What follows a bookmark is later than it."""
    promised = 0
    for event in events:
        assert event.revision > promised or event.type == BOOKMARK, f"{what} had an event after its bookmark"
        if event.type == BOOKMARK:
            assert event.revision >= promised
            promised = event.revision


def _check_replay(truth: Truth, watch: Observed, events: list[Seen]) -> None:
    """A list at the start, and the events on top of it, are the list at the end."""
    state = {obj.metadata.name: obj for obj in truth.state(watch.kind, watch.start, watch.selection)}
    for event in events:
        if event.type == DELETED:
            assert state.pop(event.name).metadata.uid == event.uid
        else:
            state[event.name] = event.object
    assert [state[name] for name in sorted(state)] == truth.state(watch.kind, truth.end, watch.selection)


def _facts(obj: Any | None) -> Facts | None:
    return facts_of(obj) if obj is not None else None


def _revision(obj: Any | None) -> str:
    return str(obj.metadata.resource_version) if obj is not None else ""
