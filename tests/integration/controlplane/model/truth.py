"""What really happened, as etcd itself tells it, and what that is to a list or a watch."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from controlplane.store import keys
from controlplane.store import operations as op
from controlplane.store.api.kv_pb2 import Event as EtcdEvent
from controlplane.store.etcd import Etcd
from podwire.client import ADDED, DELETED, MODIFIED
from podwire.kinds import Kind
from tests.integration.controlplane.model.programs import Selection


@dataclass(frozen=True)
class Change:
    revision: int
    kind: Kind
    name: str
    old: Any | None
    new: Any | None


@dataclass(frozen=True)
class Seen:
    """A watch event in short; of one that says what is there, the object too."""

    type: str
    name: str
    revision: int
    uid: str
    object: Any | None


@dataclass
class Truth:
    """All changes in one namespace up to the revision `end`."""

    end: int
    changes: list[Change] = field(default_factory=list)

    def of(self, kind: Kind) -> list[Change]:
        return [change for change in self.changes if change.kind is kind]

    def state(self, kind: Kind, revision: int, selection: Selection) -> list[Any]:
        """What a list at that revision shows."""
        objects: dict[str, Any | None] = {}
        changes = self.of(kind)
        for change in changes[: bisect_right(changes, revision, key=lambda change: change.revision)]:
            objects[change.name] = change.new
        return [obj for _, obj in sorted(objects.items()) if obj is not None and selection.meaning(obj)]

    def stream(self, kind: Kind, after: int, selection: Selection) -> Iterator[Seen]:
        """What a watch from that revision delivers."""
        for change in self.of(kind):
            if change.revision <= after:
                continue
            before = change.old is not None and selection.meaning(change.old)
            if change.new is not None and selection.meaning(change.new):
                yield seen(MODIFIED if before else ADDED, change.new)
            elif before:
                assert change.old is not None
                yield Seen(DELETED, change.name, change.revision, change.old.metadata.uid, None)


def seen(event_type: str, obj: Any) -> Seen:
    meta = obj.metadata
    shown = None if event_type == DELETED else obj
    return Seen(event_type, meta.name, int(meta.resource_version), meta.uid, shown)


async def read_truth(etcd: Etcd, namespace: str, start: int) -> Truth:
    """Everything since the revision `start`, at which the namespace was empty, until now."""
    end = await etcd.put(keys.CLOCK, b"")
    truth = Truth(end)
    present: dict[tuple[str, str], Any] = {}
    watch = etcd.watch(keys.PREFIX, op.prefix_end(keys.PREFIX), start_revision=start + 1)
    async with aclosing(watch) as batches:
        async for batch in batches:
            for event in batch.events:
                parsed = keys.parse(event.kv.key)
                if parsed is None or not parsed[1].startswith(f"{namespace}/"):
                    continue
                kind, name = parsed[0], parsed[1].partition("/")[2]
                new = None if event.type == EtcdEvent.DELETE else _object(kind, event)
                old = present.pop((kind.name, name), None)
                if new is not None:
                    present[kind.name, name] = new
                truth.changes.append(Change(event.kv.mod_revision, kind, name, old, new))
            if batch.revision >= end:
                return truth
    raise AssertionError("etcd's watch ended")


def _object(kind: Kind, event: EtcdEvent) -> Any:
    obj: Any = kind.message.FromString(event.kv.value)
    obj.metadata.resource_version = str(event.kv.mod_revision)
    return obj
