"""Telling readers which pods have changed."""

from contextlib import aclosing

from nodeagent.changes import Changes
from nodeagent.model import PodUid


async def test_the_first_thing_a_reader_is_told_is_to_look_at_all() -> None:
    async with aclosing(Changes().follow()) as changes:
        assert await anext(changes) is None


async def test_a_pod_that_changes_often_is_told_once_to_a_slow_reader() -> None:
    told = Changes()
    async with aclosing(told.follow()) as fast, aclosing(told.follow()) as slow:
        assert await anext(fast) is None and await anext(slow) is None
        for _ in range(3):
            told.tell(PodUid("a"))
            assert await anext(fast) == "a"
        told.tell(PodUid("b"))
        assert [await anext(slow), await anext(slow)] == ["a", "b"]
        assert await anext(fast) == "b"
