"""What clients asked of single objects, when, and what they were told: the history that the checker judges.

A history is kept as compressed JSON lines, one operation each, so that a run can be judged again and read by people:
`xzcat history.jsonl.xz`.
"""

from __future__ import annotations

import json
import lzma
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any


class Verb(StrEnum):
    GET = "get"
    CREATE = "create"
    # An update that names the resource version which it read, and counts one up.
    INCREMENT = "increment"
    # A merge patch of one field, whatever the others are.
    TAG = "tag"
    # A JSON patch that tests the count which it replaces.
    TEST_AND_INCREMENT = "test"
    # A deletion, of the uid and resource version that it read where it expects a content.
    DELETE = "delete"


class Outcome(StrEnum):
    DONE = "done"
    # There was no such object.
    ABSENT = "absent"
    # There was one already.
    EXISTS = "exists"
    # The object was another than expected.
    CONFLICT = "conflict"
    # No answer: it may have happened, may happen later, or never.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Content:
    """An object's state. No two states of a key are equal in a correct history: an incarnation has a `born` of its own,
    within it the count only grows, and every tag is written once."""

    born: str
    count: int
    tag: str


@dataclass(frozen=True, slots=True)
class Operation:
    """Times are microseconds of one clock. `mark` is what a create or a tag writes, and unique."""

    client: int
    key: str
    verb: Verb
    called: int
    returned: int
    outcome: Outcome
    expected: Content | None = None
    mark: str = ""
    # Of the answer: the object (of a deletion its last state), its uid and resource version.
    found: Content | None = None
    uid: str = ""
    revision: int = 0

    @property
    def is_write(self) -> bool:
        return self.verb is not Verb.GET

    def __str__(self) -> str:
        wanted = f" {self.mark}" if self.mark else f" expecting {self.expected}" if self.expected else ""
        answer = f" {self.found} at {self.revision}" if self.found else ""
        return (
            f"[{self.called:>10}..{self.returned:>10}] client {self.client}: "
            f"{self.verb} {self.key}{wanted} -> {self.outcome}{answer}"
        )


def by_key(history: Iterable[Operation]) -> dict[str, list[Operation]]:
    """Each object's own history, in the order of the calls."""
    keys: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in sorted(history, key=lambda operation: operation.called):
        keys[operation.key].append(operation)
    return dict(keys)


def save(history: Sequence[Operation], path: Path) -> None:
    with lzma.open(path, "wt", preset=9) as file:
        for operation in history:
            file.write(json.dumps(_packed(operation), separators=(",", ":")) + "\n")


def load(path: Path) -> list[Operation]:
    with lzma.open(path, "rt") as file:
        return [_unpacked(json.loads(line)) for line in file]


def _packed(operation: Operation) -> list[Any]:
    o = operation
    return [
        *(o.client, o.key, o.verb, o.called, o.returned - o.called, o.outcome),
        *(_packed_content(o.expected), o.mark, _packed_content(o.found), o.uid, o.revision),
    ]


def _unpacked(row: list[Any]) -> Operation:
    client, key, verb, called, took, outcome, expected, mark, found, uid, revision = row
    return Operation(
        client=client,
        key=key,
        verb=Verb(verb),
        called=called,
        returned=called + took,
        outcome=Outcome(outcome),
        expected=_unpacked_content(expected),
        mark=mark,
        found=_unpacked_content(found),
        uid=uid,
        revision=revision,
    )


def _packed_content(content: Content | None) -> list[Any] | None:
    return [content.born, content.count, content.tag] if content else None


def _unpacked_content(row: list[Any] | None) -> Content | None:
    return Content(*row) if row else None
