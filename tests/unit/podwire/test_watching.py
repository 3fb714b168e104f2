"""The watch iterator: one history whatever happens to the streams below it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from podwire import errors, v1
from podwire.client import INITIAL_EVENTS_END, Client, WatchEvent
from tests.unit.podwire.conftest import IMPATIENT
from tests.unit.podwire.fake_api import FakePods, serving

Watch = AsyncGenerator[WatchEvent[v1.Pod], None]


@pytest.fixture
async def watch(client: Client) -> AsyncIterator[Watch]:
    """A watch from the fake's first revision."""
    async with aclosing(client.pods.watch(resource_version="10", epoch="first")) as events:
        yield events


async def take(events: Watch, count: int) -> list[tuple[str, str, str]]:
    """(type, name, revision) of the next `count` events."""
    async with asyncio.timeout(30):
        taken = [await anext(events) for _ in range(count)]
    return [(e.type, e.object.metadata.name, e.object.metadata.resource_version) for e in taken]


async def test_changes_come_once_and_in_order_through_broken_streams(pods: FakePods, watch: Watch) -> None:
    pods.batch = 3
    seen = []
    for i in range(20):
        pods.put(f"p{i}")
        pods.put(f"p{i}")
        seen += await take(watch, 1)
        pods.break_streams()
        seen += await take(watch, 1)
    assert seen == [
        (kind, f"p{i}", str(11 + 2 * i + j)) for i in range(20) for j, kind in enumerate(("ADDED", "MODIFIED"))
    ]


async def test_a_stream_that_breaks_before_its_first_event_loses_nothing(client: Client, pods: FakePods) -> None:
    pods.put("before")
    async with aclosing(client.pods.watch()) as watch:
        first = asyncio.ensure_future(take(watch, 1))
        await pods.until(lambda: pods.calls["Watch"] >= 1)
        pods.fail("Watch", errors.Unavailable("starting"), errors.SlowWatcher("too slow"), errors.Internal("reset"))
        pods.break_streams()
        await pods.until(lambda: pods.calls["Watch"] >= 3)
        pods.put("after")
        assert await first == [("ADDED", "after", "12")]


async def test_a_transaction_that_was_half_read_comes_again_whole(pods: FakePods, watch: Watch) -> None:
    """Its revision counts as seen when the caller has taken all of its events."""
    pods.put("a", "b")
    assert await take(watch, 2) == [("ADDED", "a", "11"), ("ADDED", "b", "11")]
    pods.put("c", "d")
    await take(watch, 1)
    pods.break_streams()
    assert await take(watch, 1) == [("ADDED", "d", "12")]
    pods.put("e")
    assert await take(watch, 1) == [("ADDED", "e", "13")]


async def test_a_watch_goes_on_after_the_last_bookmark(pods: FakePods, watch: Watch) -> None:
    pods.bookmark()
    assert (await take(watch, 1))[0][0] == "BOOKMARK"
    waiting = asyncio.ensure_future(take(watch, 1))
    pods.break_streams()
    await pods.until(lambda: pods.calls["Watch"] >= 2)
    request = pods.requests[-1][1]
    assert (request.resource_version, request.epoch) == ("11", "first")
    pods.put("a")
    await waiting


async def test_events_that_were_delivered_are_not_delivered_again(pods: FakePods, watch: Watch) -> None:
    pods.put("a")
    assert await take(watch, 1) == [("ADDED", "a", "11")]
    pods.replay()
    pods.put("b")
    assert await take(watch, 1) == [("ADDED", "b", "12")]


async def test_after_a_compaction_the_difference_to_one_new_list_comes_out(pods: FakePods, watch: Watch) -> None:
    pods.put("changed", "gone", "same", "replaced")
    await take(watch, 4)
    waiting = asyncio.ensure_future(take(watch, 6))
    pods.put("changed")
    pods.remove("gone")
    pods.remove("replaced")
    pods.put("replaced", uid="another")
    pods.put("new")
    pods.compact()
    pods.break_streams()
    assert await waiting == [
        ("DELETED", "gone", "17"),
        ("DELETED", "replaced", "17"),
        ("MODIFIED", "changed", "12"),
        ("ADDED", "replaced", "15"),
        ("ADDED", "new", "16"),
        ("BOOKMARK", "", "17"),
    ]
    assert pods.calls["List"] == 1
    pods.put("later")
    assert await take(watch, 1) == [("ADDED", "later", "18")]


async def test_the_store_of_another_epoch_is_listed_anew_though_its_revisions_are_lower(
    pods: FakePods, watch: Watch
) -> None:
    pods.put("kept", "lost")
    await take(watch, 2)
    del pods.objects["default/lost"]
    pods.restore("second", revision=5)
    pods.objects["default/kept"].metadata.resource_version = "4"
    pods.break_streams()
    assert await take(watch, 3) == [("DELETED", "lost", "5"), ("MODIFIED", "kept", "4"), ("BOOKMARK", "", "5")]


async def test_a_list_from_a_replica_that_is_behind_is_not_believed(pods: FakePods, watch: Watch) -> None:
    pods.put("a")
    await take(watch, 1)
    pods.compact()
    pods.behind = 5
    waiting = asyncio.ensure_future(take(watch, 1))
    pods.break_streams()
    await pods.until(lambda: pods.calls["List"] == 2)
    pods.behind = 0
    assert await waiting == [("BOOKMARK", "", "12")]


async def test_a_list_that_fails_after_a_compaction_is_tried_again(pods: FakePods, watch: Watch) -> None:
    pods.compact()
    pods.fail("List", errors.Internal("broken"), errors.Timeout("late"))
    assert await take(watch, 1) == [("BOOKMARK", "", "11")]
    assert pods.calls["List"] == 3


async def test_a_silent_stream_is_dead(pods: FakePods, watch: Watch) -> None:
    pods.silent = True
    pods.put("a")
    waiting = asyncio.ensure_future(take(watch, 1))
    await pods.until(lambda: pods.calls["Watch"] >= 2)
    pods.silent = False
    pods.break_streams()
    assert await waiting == [("ADDED", "a", "11")]


async def test_what_cannot_get_better_is_raised(pods: FakePods, watch: Watch) -> None:
    pods.fail("Watch", errors.Invalid("no such field"))
    with pytest.raises(errors.Invalid, match="no such field"):
        await anext(watch)


async def test_initial_events_come_first_and_end_with_a_bookmark(client: Client, pods: FakePods) -> None:
    pods.put("a")
    pods.put("b")
    async with aclosing(client.pods.watch(send_initial_events=True)) as watch:
        assert await take(watch, 2) == [("ADDED", "a", "11"), ("ADDED", "b", "12")]
        end = await anext(watch)
        assert end.type == "BOOKMARK"
        assert end.object.metadata.resource_version == "12"
        assert INITIAL_EVENTS_END in end.object.metadata.annotations
        pods.put("c")
        assert await take(watch, 1) == [("ADDED", "c", "13")]


async def test_deletions_of_known_objects_are_told_where_history_is_lost(client: Client, pods: FakePods) -> None:
    pods.put("listed")
    listed = await client.pods.list()
    pods.remove("listed")
    pods.compact()
    watch = client.pods.watch(resource_version=listed.resource_version, epoch=listed.epoch, known=listed.items)
    async with aclosing(watch):
        assert await take(watch, 1) == [("DELETED", "listed", "13")]


async def test_objects_from_before_the_watch_are_no_news_where_history_is_lost(client: Client, pods: FakePods) -> None:
    pods.put("old")
    pods.compact()
    async with aclosing(client.pods.watch(resource_version="11", epoch="first")) as watch:
        assert await take(watch, 1) == [("BOOKMARK", "", "12")]


async def test_a_watch_goes_on_at_another_server_when_one_is_silent(pods: FakePods, tmp_path: Path) -> None:
    silent = FakePods()
    silent.silent = True
    async with (
        serving(silent, tmp_path / "silent") as first,
        serving(pods, tmp_path / "other") as second,
        Client.connect([first, second], settings=IMPATIENT) as client,
        aclosing(client.pods.watch(resource_version="10", epoch="first")) as watch,
    ):
        pods.put("a")
        assert await take(watch, 1) == [("ADDED", "a", "11")]
