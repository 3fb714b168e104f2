"""Channels: shared work, whole revisions, bounded memory."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from controlplane.store.channels import BATCH_BYTES, Watcher
from podwire import errors, v1
from tests.unit.controlplane.store.test_kind_cache import Feed, pod, taken

KIB = 1024


def filled(feed: Feed, count: int, size: int) -> None:
    for number in range(count):
        obj = pod(f"p{number}")
        obj.metadata.annotations["filler"] = "x" * size
        feed.put(obj)


def test_watchers_of_equal_selections_get_the_very_same_bytes() -> None:
    feed = Feed()
    first, second = feed.watch(labels="a=b"), feed.watch(labels="a=b")
    feed.put(pod("a", labels={"a": "b"}))
    assert first.take() is second.take()


def test_a_batch_is_cut_between_revisions_only() -> None:
    feed = Feed()
    live = feed.watch()
    start = feed.revision
    for _ in range(4):
        for number in range(3):
            obj = pod(f"p{number}")
            obj.metadata.annotations["filler"] = "x" * 300 * KIB
            feed.put(obj, same_revision=number > 0)
    for watcher in (live, feed.watch(start)):
        batches = []
        while batch := watcher.take():
            assert len(batch) <= BATCH_BYTES
            batches.append([e.object.metadata.resource_version for e in v1.PodWatchResponse.FromString(batch).events])
        assert [revision for batch in batches for revision in batch] == sorted(r for b in batches for r in b)
        assert len(batches) > 1
        assert all(len(batch) % 3 == 0 for batch in batches)


def test_a_watcher_that_does_not_read_is_ended_and_the_others_are_not() -> None:
    feed = Feed(watcher_bytes=1024 * KIB)
    slow, quick = feed.watch(), feed.watch()
    ended = []
    slow.on_end = lambda: ended.append("slow")
    seen = 0
    for _ in range(30):
        filled(feed, 1, 100 * KIB)
        seen += len(taken(quick))
    assert seen == 30
    assert ended == ["slow"]
    with pytest.raises(errors.SlowWatcher):
        slow.take()


def test_a_log_keeps_only_what_somebody_has_not_read() -> None:
    feed = Feed()
    reader = feed.watch()
    channel = reader._channel
    for _ in range(50):
        filled(feed, 1, 50 * KIB)
        taken(reader)
    assert sum(len(part) for kept in channel._log for part in kept.parts) < 512 * KIB


def test_a_watcher_that_has_left_costs_nothing() -> None:
    feed = Feed()
    watchers = [feed.watch(fields=f"spec.nodeName=n{number}") for number in range(10)]
    assert feed.cache.watchers == 10
    for watcher in watchers:
        watcher.close()
    index = feed.cache._channels
    assert feed.cache.watchers == 0
    assert not index._channels
    assert not index._by_route
    assert not index._paths


async def test_a_waiting_watcher_is_woken_by_a_change_that_it_selects() -> None:
    feed = Feed()
    watcher = feed.watch(namespace="other")
    assert not watcher.take()
    waiting = watcher.turn()
    feed.put(pod("a"))
    await asyncio.sleep(0)
    assert not waiting.done()
    feed.put(pod("a", namespace="other"))
    await waiting
    assert [name for _, name, _ in taken(watcher)] == ["a"]


async def test_a_waiting_watcher_is_woken_by_its_end() -> None:
    feed = Feed()
    watcher = feed.watch()
    assert not watcher.take()
    waiting = watcher.turn()
    feed.cache.end_watches(errors.Unavailable("stopping"))
    await waiting
    with pytest.raises(errors.Unavailable):
        watcher.take()


async def test_a_watcher_that_sends_in_its_turn_need_not_be_woken() -> None:
    feed = Feed()
    watcher = feed.watch()
    sent: list[str] = []

    def turn() -> bool:
        sent.extend(name for _, name, _ in taken(watcher))
        watcher.rest()
        return True

    watcher.on_turn = turn
    waiting = watcher.turn()
    for name in ("a", "b"):
        feed.put(pod(name))
        await asyncio.sleep(0)
    assert sent == ["a", "b"]
    assert not waiting.done()


def test_a_closed_watcher_leaves_no_garbage() -> None:
    feed = Feed()

    def closed() -> weakref.ref[Watcher]:
        watcher = feed.watch()

        def turn() -> bool:
            watcher.rest()
            return True

        watcher.on_turn = turn
        watcher.close()
        return weakref.ref(watcher)

    gc.disable()
    try:
        assert closed()() is None
    finally:
        gc.enable()


async def test_a_watcher_whose_turn_fails_is_ended_and_the_others_have_theirs() -> None:
    feed = Feed()
    failing, other = feed.watch(), feed.watch()

    def turn() -> bool:
        failing.take()
        raise ZeroDivisionError

    failing.on_turn = turn
    waiting = [failing.turn(), other.turn()]
    feed.put(pod("a"))
    await asyncio.gather(*waiting)
    assert [name for _, name, _ in taken(other)] == ["a"]
    # Not an event that was taken and is not sent.
    with pytest.raises(errors.Internal):
        failing.take()


async def test_a_watcher_that_is_woken_while_nothing_happens_leaves_nothing_behind() -> None:
    feed = Feed()
    watcher = feed.watch()
    assert not watcher.take()
    for _ in range(10):
        waiting = watcher.turn()
        watcher.wake()
        await waiting
    assert len(watcher._channel._idle) == 1
    watcher.close()
    assert not watcher._channel._idle


async def test_a_watcher_with_more_to_take_waits_for_its_turn_only() -> None:
    feed = Feed()
    start = feed.revision
    filled(feed, 3, 100 * KIB)
    resumed, live = feed.watch(start), feed.watch()
    filled(feed, 2, 100 * KIB)
    for watcher, batches in ((resumed, 5), (live, 2)):
        for _ in range(batches):
            await watcher.turn()
            assert watcher.take(limit=1)
        assert not watcher.take()
