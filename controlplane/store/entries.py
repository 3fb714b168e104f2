"""One version of an object, ready to be sent and to be selected; and one change, from a version to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from controlplane.store import wire
from podwire.kinds import Kind


class Fields(dict[str, str]):
    """The selectable fields of one object, each read when it is asked for first.

    A kind has a dozen of them, and most entries are asked for one: the field by which watchers are indexed.
    """

    __slots__ = ("_item", "_kind", "_start")

    def __init__(self, kind: Kind, item: bytes, start: int) -> None:
        super().__init__()
        self._kind = kind
        self._item = item
        self._start = start

    def __missing__(self, path: str) -> str:
        message = self._kind.message.FromString(self._item[self._start :])
        value = self[path] = self._kind.selectors[path](message)
        return value


@dataclass(slots=True, eq=False)
class Entry:
    """Immutable by agreement; frozen dataclasses take three times as long to make."""

    kind: Kind
    # As podwire.keys joins it.
    key: str
    namespace: str
    revision: int
    # The object as an item of a list, and where its own bytes begin.
    item: bytes
    start: int
    # The kind's selectable fields.
    fields: Mapping[str, str]
    _labels: Mapping[str, str] | None = field(default=None, init=False)

    @property
    def labels(self) -> Mapping[str, str]:
        """Read when they are asked for first: most entries meet no selector of labels."""
        if self._labels is None:
            self._labels = dict(self.message().metadata.labels)
        return self._labels

    @property
    def sent(self) -> bytes:
        """The object as it is sent."""
        return self.item[self.start :]

    def message(self) -> Any:
        """A copy of the object, to be changed at will."""
        return self.kind.message.FromString(self.item[self.start :])


def make(kind: Kind, key: str, stored: bytes, revision: int) -> Entry:
    """The entry of an object as etcd has it."""
    framed = wire.item(wire.stamp(stored, revision))
    start = wire.item_start(framed)
    return Entry(kind, key, key.rpartition("/")[0], revision, framed, start, Fields(kind, framed, start))


@dataclass(slots=True, eq=False)
class Change:
    """What a revision did to one key: `old` is None where it was made, `new` where it was deleted."""

    revision: int
    key: str
    old: Entry | None
    new: Entry | None
    _departed: bytes = field(default=b"", init=False)

    @property
    def size(self) -> int:
        """Bytes that remembering the change costs beyond the entries before it."""
        return 200 + (len(self.new.item) if self.new is not None else 0)

    def departed(self) -> bytes:
        """The old object at the change's revision, as an item: what those see whom it has left."""
        if not self._departed:
            assert self.old is not None
            self._departed = wire.item(wire.restamp(self.old.kind.message(), self.old.sent, self.revision))
        return self._departed
