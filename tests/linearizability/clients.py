"""Clients that read and write a few objects at once, each one request after the other, and write down what happened.

The objects are config maps. All clients know what any of them saw last, so that many write on the same ground at the
same moment: with the same expectation, and often the very same bytes. After some operations everybody goes on with new
objects, so that no history gets too long to be judged.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from podwire import errors, v1
from podwire.client import Client
from tests.linearizability.history import Content, Operation, Outcome, Verb

# Objects in use at a time, and operations until they are left for others.
_OBJECTS: Final = 4
_OPERATIONS_AN_AGE: Final = 1_500

# How often what is asked.
WEIGHTS: Final = {
    Verb.GET: 38,
    Verb.INCREMENT: 30,
    Verb.TAG: 12,
    Verb.TEST_AND_INCREMENT: 8,
    Verb.CREATE: 6,
    Verb.DELETE: 6,
}
_REFUSALS: Final[dict[type[errors.PodwireError], Outcome]] = {
    errors.NotFound: Outcome.ABSENT,
    errors.AlreadyExists: Outcome.EXISTS,
    errors.Conflict: Outcome.CONFLICT,
    errors.PreconditionFailed: Outcome.CONFLICT,
}


@dataclass
class Recording:
    """What has happened so far. `progress` is set anew with every operation, for those who wait for more."""

    operations: list[Operation] = field(default_factory=list)
    seen: dict[str, v1.ConfigMap | None] = field(default_factory=dict)
    # Requests of each client that got no answer, reads too, which leave no other trace.
    unanswered: Counter[int] = field(default_factory=Counter)
    progress: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def unknown(self) -> int:
        return sum(operation.outcome is Outcome.UNKNOWN for operation in self.operations)

    @property
    def _writes(self) -> int:
        return sum(operation.is_write and operation.outcome is Outcome.DONE for operation in self.operations)

    async def wait_more(self, count: int) -> None:
        """Until `count` more operations have been done."""
        wanted = len(self.operations) + count
        async with self.progress:
            await self.progress.wait_for(lambda: len(self.operations) >= wanted)

    async def wait_writes(self, count: int) -> None:
        """Until `count` more writes have happened."""
        wanted = self._writes + count
        async with self.progress:
            await self.progress.wait_for(lambda: self._writes >= wanted)

    async def wait_unanswered(self, clients: Sequence[int]) -> None:
        """Until one more request of any of `clients` has got no answer."""
        before = sum(self.unanswered[client] for client in clients)
        async with self.progress:
            await self.progress.wait_for(lambda: sum(self.unanswered[client] for client in clients) > before)


class Worker:
    """One client: the number tells it from the others, and the seed what it does."""

    def __init__(
        self, number: int, client: Client, recording: Recording, seed: str, weights: Mapping[Verb, int] = WEIGHTS
    ) -> None:
        self._number = number
        self._objects = client.config_maps
        self._recording = recording
        self._random = random.Random(f"{seed}/{number}")
        self._weights = weights
        self._marks = 0

    async def run(self, may_end: Callable[[], bool], operations: int) -> None:
        """Goes on until it may end and `operations` have been recorded by all clients together."""
        while not may_end() or len(self._recording.operations) < operations:
            await self._one()
            async with self._recording.progress:
                self._recording.progress.notify_all()

    async def _one(self) -> None:
        recording = self._recording
        age = len(recording.operations) // _OPERATIONS_AN_AGE
        key = f"o{age}-{self._random.randrange(_OBJECTS)}"
        verb = self._random.choices(list(self._weights), list(self._weights.values()))[0]
        known = recording.seen.get(key)
        if known is None and verb in (Verb.INCREMENT, Verb.TEST_AND_INCREMENT):
            # Nothing to count up from.
            verb = Verb.CREATE if key in recording.seen else Verb.GET
        expected = known if verb in (Verb.INCREMENT, Verb.TEST_AND_INCREMENT) else None
        if verb is Verb.DELETE and self._random.random() < 0.5:
            expected = known
        mark = self._mark() if verb in (Verb.CREATE, Verb.TAG) else ""
        called = time.monotonic_ns()
        answer: v1.ConfigMap | None = None
        try:
            answer = await self._request(verb, key, expected, mark)
            outcome = Outcome.DONE
        except (errors.Unavailable, errors.Timeout):
            outcome = Outcome.UNKNOWN
        except tuple(_REFUSALS) as refusal:
            outcome = _REFUSALS[type(refusal)]
        returned = time.monotonic_ns()
        self._learn(key, verb, outcome, answer)
        if outcome is Outcome.UNKNOWN:
            recording.unanswered[self._number] += 1
            if verb is Verb.GET:
                return
        recording.operations.append(
            Operation(
                client=self._number,
                key=key,
                verb=verb,
                # Both rounded outwards: what overlapped still does.
                called=called // 1_000,
                returned=-(-returned // 1_000),
                outcome=outcome,
                expected=_content(expected) if expected is not None else None,
                mark=mark,
                found=_content(answer) if answer is not None else None,
                uid=answer.metadata.uid if answer is not None else "",
                revision=int(answer.metadata.resource_version) if answer is not None else 0,
            )
        )

    async def _request(self, verb: Verb, key: str, expected: v1.ConfigMap | None, mark: str) -> v1.ConfigMap:
        objects = self._objects
        match verb:
            case Verb.GET:
                return await objects.get(key, namespace="default")
            case Verb.CREATE:
                made = v1.ConfigMap(metadata=v1.ObjectMeta(name=key, namespace="default"))
                made.data.update({"born": mark, "count": "0", "tag": ""})
                return await objects.create(made)
            case Verb.DELETE:
                meta = expected.metadata if expected is not None else v1.ObjectMeta()
                return await objects.delete(
                    key, namespace="default", uid=meta.uid, resource_version=meta.resource_version
                )
            case Verb.TAG:
                return await objects.patch(key, {"data": {"tag": mark}}, namespace="default")
        assert expected is not None
        count = expected.data["count"]
        if verb is Verb.TEST_AND_INCREMENT:
            steps = [
                {"op": "test", "path": "/data/count", "value": count},
                {"op": "replace", "path": "/data/count", "value": str(int(count) + 1)},
            ]
            return await objects.patch(key, steps, namespace="default")
        changed = v1.ConfigMap()
        changed.CopyFrom(expected)
        changed.data["count"] = str(int(count) + 1)
        return await objects.update(changed)

    def _learn(self, key: str, verb: Verb, outcome: Outcome, answer: v1.ConfigMap | None) -> None:
        if outcome is Outcome.ABSENT or (outcome is Outcome.DONE and verb is Verb.DELETE):
            self._recording.seen[key] = None
        elif answer is not None:
            self._recording.seen[key] = answer
        elif outcome is not Outcome.UNKNOWN:
            # It is there, in another state than the one that was known: whoever needs it reads it first.
            self._recording.seen.pop(key, None)

    def _mark(self) -> str:
        self._marks += 1
        return f"{self._number}.{self._marks}"


def _content(obj: v1.ConfigMap) -> Content:
    return Content(obj.data["born"], int(obj.data["count"]), obj.data["tag"])
