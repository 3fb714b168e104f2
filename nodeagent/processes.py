"""Processes that are not our children, held by descriptors: a number may be another process' by the next call."""

from __future__ import annotations

import asyncio
import os
import signal
from types import TracebackType
from typing import Self


class Process:
    """A hold on the process that has number `pid` now. Raises ProcessLookupError where there is none.

    Whether it is the one that was meant is for the caller to check after this, and before acting on it.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)
        self._ended: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._ended is not None and not self._ended.done():
            asyncio.get_running_loop().remove_reader(self._descriptor)
            self._ended.cancel()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def send(self, number: signal.Signals | int) -> None:
        """Sends a signal. Raises ProcessLookupError where it has ended and was waited for."""
        signal.pidfd_send_signal(self._descriptor, number)

    async def wait(self) -> None:
        """Returns when it has ended. Any number of tasks may wait."""
        if self._ended is None:
            loop = asyncio.get_running_loop()
            self._ended = loop.create_future()
            loop.add_reader(self._descriptor, self._end)
        await asyncio.shield(self._ended)

    def _end(self) -> None:
        assert self._ended is not None
        asyncio.get_running_loop().remove_reader(self._descriptor)
        self._ended.set_result(None)


async def kill(pid: int) -> None:
    """Kills the process with number `pid`, if there is one, and waits for its end."""
    try:
        with Process(pid) as process:
            process.send(signal.SIGKILL)
            await process.wait()
    except ProcessLookupError:
        pass
