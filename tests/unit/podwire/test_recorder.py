"""Events: counted where they repeat, limited where they flood, never lost for that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from podwire import errors, v1
from podwire.client import KindClient
from podwire.client.recorder import NORMAL, WARNING, EventKey, EventRecorder, Ledger

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
BURST = 25
REFILL = 30.0


def key(message: str = "failed", uid: str = "uid-web") -> EventKey:
    return EventKey("Pod", "default", "web", uid, "", WARNING, "Unhealthy", message)


def note(ledger: Ledger, of: EventKey, times: int = 1) -> None:
    for second in range(times):
        ledger.note(of, v1.ObjectReference(), NOON + timedelta(seconds=second))


def test_repetitions_before_a_write_are_one_event_with_a_count() -> None:
    ledger = Ledger()
    note(ledger, key(), times=3)

    entry = ledger.take(0.0)

    assert entry is not None
    assert (entry.unwritten, entry.first, entry.last) == (3, NOON, NOON + timedelta(seconds=2))
    assert ledger.take(0.0) is None
    assert ledger.wait(0.0) is None


def test_an_object_that_floods_is_counted_on_and_written_when_it_may_be_again() -> None:
    ledger = Ledger()
    for _ in range(BURST):
        note(ledger, key())
        taken = ledger.take(0.0)
        assert taken is not None
        taken.unwritten = 0
    note(ledger, key(), times=40)

    assert ledger.take(0.0) is None
    assert ledger.wait(0.0) == REFILL
    late = ledger.take(REFILL)
    assert late is not None
    assert late.unwritten == 40


def test_one_objects_flood_does_not_hold_up_anothers_event() -> None:
    ledger = Ledger()
    for number in range(BURST + 5):
        note(ledger, key(f"message {number}"))
    note(ledger, key(uid="another"))

    taken = [entry.key.uid for _ in range(BURST + 1) if (entry := ledger.take(0.0)) is not None]

    assert taken == ["uid-web"] * BURST + ["another"]


def test_an_events_name_is_its_objects_and_a_hash_of_what_happened() -> None:
    assert key().event_name == key().event_name
    assert key().event_name.startswith("web.")
    assert key("another").event_name != key().event_name
    assert key(uid="successor").event_name != key().event_name


class Store:
    """The events' client with a dictionary behind it, and faults to order."""

    def __init__(self) -> None:
        self.events: dict[str, v1.Event] = {}
        self.failures: list[errors.PodwireError] = []
        self.written = asyncio.Event()

    async def create(self, obj: v1.Event) -> v1.Event:
        self._fail()
        if obj.metadata.name in self.events:
            raise errors.AlreadyExists("there is one")
        return self._store(obj)

    async def update(self, obj: v1.Event) -> v1.Event:
        self._fail()
        stored = self.events.get(obj.metadata.name)
        if stored is None:
            raise errors.NotFound("expired")
        if stored.metadata.resource_version != obj.metadata.resource_version:
            raise errors.Conflict("changed")
        return self._store(obj)

    async def get(self, name: str, *, namespace: str) -> v1.Event:
        return self.events[name]

    def _store(self, obj: v1.Event) -> v1.Event:
        stored = v1.Event()
        stored.CopyFrom(obj)
        stored.metadata.resource_version = str(int(obj.metadata.resource_version or 0) + 1)
        self.events[obj.metadata.name] = stored
        self.written.set()
        return stored

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)

    async def count(self) -> int:
        """Of the only event, after the next write."""
        await asyncio.wait_for(self.written.wait(), 5)
        self.written.clear()
        (event,) = self.events.values()
        return event.count


POD = v1.Pod(metadata=v1.ObjectMeta(name="web", namespace="default", uid="uid-web"))


@asynccontextmanager
async def recorder(store: Store) -> AsyncGenerator[EventRecorder, None]:
    made = EventRecorder(cast("KindClient[v1.Event]", store), component="test", host="n1", now=lambda: NOON)
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    await asyncio.wait([task])


async def test_an_event_names_its_object_and_who_told_it() -> None:
    store = Store()
    async with recorder(store) as told:
        told.event(POD, NORMAL, "Started", "Started container app", field_path="spec.containers{app}")
        await store.count()

    (event,) = store.events.values()
    assert (event.involved_object.kind, event.involved_object.uid) == ("Pod", "uid-web")
    assert event.involved_object.field_path == "spec.containers{app}"
    assert (event.source.component, event.source.host) == ("test", "n1")
    assert (event.type, event.reason, event.message) == (NORMAL, "Started", "Started container app")
    assert event.metadata.namespace == "default"


async def test_a_repetition_counts_up_and_so_does_the_next_recorder() -> None:
    store = Store()
    async with recorder(store) as told:
        told.event(POD, WARNING, "BackOff", "again")
        assert await store.count() == 1
        told.event(POD, WARNING, "BackOff", "again")
        assert await store.count() == 2
    async with recorder(store) as successor:
        successor.event(POD, WARNING, "BackOff", "again")
        assert await store.count() == 3


async def test_an_event_that_has_expired_begins_anew() -> None:
    store = Store()
    async with recorder(store) as told:
        told.event(POD, WARNING, "BackOff", "again")
        await store.count()
        store.events.clear()
        told.event(POD, WARNING, "BackOff", "again")
        assert await store.count() == 1


async def test_what_cannot_be_written_now_is_written_later() -> None:
    store = Store()
    store.failures.append(errors.Unavailable("away"))
    async with recorder(store) as told:
        told.event(POD, WARNING, "BackOff", "again")
        assert await store.count() == 1


async def test_what_can_never_be_written_does_not_stop_the_rest() -> None:
    store = Store()
    store.failures.append(errors.PreconditionFailed("the namespace is going"))
    async with recorder(store) as told:
        told.event(POD, WARNING, "BackOff", "first")
        told.event(POD, WARNING, "BackOff", "second")
        await store.count()

    assert [event.message for event in store.events.values()] == ["second"]


async def test_a_recorder_that_lost_its_election_stops() -> None:
    store = Store()
    store.failures.append(errors.Fenced("another leads"))
    told = EventRecorder(cast("KindClient[v1.Event]", store), component="test")
    told.event(POD, WARNING, "BackOff", "again")

    with pytest.raises(errors.Fenced):
        await told.run()
