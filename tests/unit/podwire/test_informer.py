"""The informer's picture and what its handlers hear."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from podwire import errors, v1
from podwire.client import Client, Informer
from tests.unit.podwire.fake_api import FakePods


class Heard:
    """A handler that can be waited for: (key, old revision, new revision) of every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str]] = []
        self._more = asyncio.Event()

    def __call__(self, key: str, old: v1.Pod | None, new: v1.Pod | None) -> None:
        before, after = (obj.metadata.resource_version if obj else "-" for obj in (old, new))
        self.calls.append((key.removeprefix("default/"), before, after))
        self._more.set()

    async def next(self, count: int) -> list[tuple[str, str, str]]:
        async with asyncio.timeout(30):
            while len(self.calls) < count:
                self._more.clear()
                await self._more.wait()
        taken, self.calls = self.calls[:count], self.calls[count:]
        return taken


@pytest.fixture
async def informer(client: Client, pods: FakePods) -> AsyncIterator[Informer[v1.Pod]]:
    """Running and synced on two pods, web and db."""
    pods.put("web", "db", app="x")
    made = Informer(client.pods)
    running = asyncio.ensure_future(made.run())
    async with asyncio.timeout(30):
        await made.wait_synced()
    yield made
    running.cancel()


@pytest.fixture
def heard(informer: Informer[v1.Pod]) -> Heard:
    """Everything from now on; what is there already is left out."""
    handler = Heard()
    informer.add_handler(handler)
    handler.calls.clear()
    return handler


async def test_a_late_handler_hears_of_what_is_there(informer: Informer[v1.Pod]) -> None:
    handler = Heard()
    informer.add_handler(handler)
    assert handler.calls == [("web", "-", "11"), ("db", "-", "11")]
    assert informer.synced
    assert (informer.resource_version, informer.epoch) == ("11", "first")


async def test_the_picture_follows_changes(informer: Informer[v1.Pod], pods: FakePods, heard: Heard) -> None:
    pods.put("web")
    pods.put("new")
    pods.remove("db")
    assert await heard.next(3) == [("web", "11", "12"), ("new", "-", "13"), ("db", "11", "-")]
    assert set(informer.keys()) == {"default/web", "default/new"}
    assert informer.get("default/db") is None
    assert len(informer.values()) == 2


async def test_lost_history_leads_to_the_same_picture(informer: Informer[v1.Pod], pods: FakePods, heard: Heard) -> None:
    pods.silent = True
    pods.put("web")
    pods.remove("db")
    pods.put("db", uid="another")
    pods.put("new")
    pods.compact()
    pods.silent = False
    pods.break_streams()
    assert await heard.next(4) == [("web", "11", "12"), ("db", "11", "-"), ("db", "-", "14"), ("new", "-", "15")]


async def test_an_index_follows_changes(informer: Informer[v1.Pod], pods: FakePods, heard: Heard) -> None:
    informer.add_index("app", lambda pod: [pod.metadata.labels["app"]] if "app" in pod.metadata.labels else [])
    assert [pod.metadata.name for pod in informer.by_index("app", "x")] == ["web", "db"]
    pods.put("web", app="y")
    pods.remove("db")
    await heard.next(2)
    assert informer.by_index("app", "x") == []
    assert [pod.metadata.name for pod in informer.by_index("app", "y")] == ["web"]


async def test_a_list_older_than_what_was_seen_is_not_believed(
    informer: Informer[v1.Pod], pods: FakePods, heard: Heard
) -> None:
    pods.put("web")
    await heard.next(1)
    pods.compact()
    pods.behind = 10
    stale = pods.objects.pop("default/web")
    pods.break_streams()
    await pods.until(lambda: pods.calls["List"] >= 3)
    assert informer.get("default/web") is not None
    pods.behind = 0
    pods.objects["default/web"] = stale
    pods.put("new")
    assert await heard.next(1) == [("new", "-", "14")]


async def test_what_no_retry_can_help_against_ends_it(client: Client, pods: FakePods) -> None:
    pods.fail("List", errors.Invalid("no such selector"))
    with pytest.raises(errors.Invalid):
        await Informer(client.pods, label_selector="!!").run()
