"""What the running call holds of its user's room, and the end of a call whose client does not read.

Both belong to the task that serves the call, and are found through it: the verbs need not be handed anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, Final, Self

import structlog

from controlplane.services.in_flight import SMALL_BATCH_BYTES, Share
from controlplane.services.users import User
from podwire import errors

log = structlog.get_logger(__name__)

# For a client that has stood still to begin to read, so that it hears why its call was ended.
LAST_WORD_SECONDS: Final = 5.0


class Call:
    """A call under way. As a stream it holds room among the requests too, until it stands."""

    __slots__ = ("_opening", "reading", "user")

    def __init__(self, user: User, reading: float, *, opening: Share | None = None) -> None:
        self.user = user
        # Seconds that the client may take for what it is sent.
        self.reading = reading
        self._opening = opening

    def opened(self) -> None:
        """The stream stands: from now on it costs what its messages cost."""
        if self._opening is not None:
            self._opening.leave()
            self._opening = None


# The running task's. Every method of the API is behind the limits, and so has one.
CALL: Final[ContextVar[Call]] = ContextVar("call")


class Delivery:
    """A watch's client, as a reader: how much it is sent at once, and its end when it does not take it.

    One timer a watch, not one a message: a client that stands still is noticed after one to two of its intervals.
    """

    def __init__(self, end: Callable[[errors.PodwireError], None]) -> None:
        call = CALL.get()
        self._seconds = call.reading
        self._outgoing = call.user.outgoing
        self._end = end
        # Bytes of the message on its way, and how many messages there were.
        self._size = 0
        self._count = 0

    @property
    def room(self) -> Callable[[], int]:
        """How many bytes the next message may have."""
        return self._outgoing.batch

    def begins(self, size: int) -> None:
        """A message is to be sent."""
        self._size = size
        self._count += 1
        self._outgoing.used += size

    def is_over(self) -> None:
        """It is on its way."""
        self._outgoing.used -= self._size
        self._size = 0

    def __enter__(self) -> Self:
        self._look_again()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over()
        self._timer.cancel()

    def _look(self, count: int) -> None:
        if self._size and self._count == count:
            self._end(
                errors.SlowWatcher(f"the watcher has not read for {self._seconds:g} s: list again, and read faster")
            )
        else:
            self._look_again()

    def _look_again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._look, self._count)


async def answer_of(parts: Sequence[bytes]) -> bytes:
    """`parts` as the running call's answer, put together once there is room among the bytes on their way to clients.

    They count until the client has taken them; one that does not in time loses the call. Raises Overloaded. What is
    small enough for the windows of a connection just goes.
    """
    call = CALL.get()
    share, size = call.user.answers, sum(map(len, parts))
    if size > SMALL_BATCH_BYTES:
        await share.enter(size)
        _task().add_done_callback(lambda _: share.leave(size))
        cut_after(call.reading)
    return b"".join(parts)


def cut_after(seconds: float) -> None:
    """Ends the running call, if it is still there by then, with whatever its client has not read."""
    task = _task()
    timer = asyncio.get_running_loop().call_later(seconds, _cut, task)
    task.add_done_callback(lambda _: timer.cancel())


def _task() -> asyncio.Task[Any]:
    """The call's: it is done when the client has taken everything, or is gone."""
    task = asyncio.current_task()
    assert task is not None
    return task


def _cut(task: asyncio.Task[Any]) -> None:
    task.cancel()
    log.info("a call whose client does not read is ended")
