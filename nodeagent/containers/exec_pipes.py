"""The pipes of an exec, on the agent's side: output as it comes, at the reader's pace, and input.

containerd's shim opens the other ends while the exec starts, and hangs without ours: they are open from the beginning.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import os
import shutil
import termios
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

_CHUNK: Final = 1 << 16
_MOST_CHUNKS: Final = 16
"""Held for a slow reader; then the pipe fills, and the process waits as it would for a slow terminal."""
_DRAIN_INTERVAL: Final = 0.01


@contextmanager
def opened(folder: Path) -> Iterator[None]:
    """Keeps both ends of the pipes in `folder` open: a shim that was left waiting for a reader goes on.

    Until it does, it answers nothing that is asked about the exec's container.
    """
    with ExitStack() as ends:
        for pipe in folder.iterdir():
            ends.callback(os.close, os.open(pipe, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
        yield


class ExecPipes:
    """FIFOs in a folder of their own, which is what a killed agent's leftovers are found by."""

    def __init__(self, folder: Path, *, stdin: bool, terminal: bool) -> None:
        self.folder = folder
        self._streams = ["stdout"] if terminal else ["stdout", "stderr"]
        self._readers: dict[str, int] = {}
        self._input = -1
        self._chunks: deque[tuple[str, bytes]] = deque()
        self._paused: set[str] = set()
        self._news = asyncio.Event()
        self._all_ended = asyncio.Event()
        self.taken = 0
        """Pieces of output read from the pipes so far."""
        folder.mkdir(parents=True)
        try:
            for name in self._streams:
                os.mkfifo(folder / name, 0o600)
                self._readers[name] = os.open(folder / name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            if stdin:
                os.mkfifo(folder / "stdin", 0o600)
                # For reading too, or the open waits for the shim's.
                self._input = os.open(folder / "stdin", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self.close()
            raise

    def path(self, name: str) -> str:
        """The path of stdin, stdout or stderr for containerd; empty where the exec has none."""
        if name == "stdin":
            return str(self.folder / name) if self._input >= 0 else ""
        return str(self.folder / name) if name in self._streams else ""

    def start(self) -> None:
        """Begins to read: once the shim has the other ends open, for a pipe that nobody writes to looks ended."""
        for name in list(self._readers):
            self._resume(name)

    @property
    def ended(self) -> bool:
        """Whether every writer has closed its end."""
        return not self._readers

    @property
    def paused(self) -> bool:
        """Whether the reader is slow, so that output waits in a pipe."""
        return bool(self._paused)

    async def wait_ended(self) -> None:
        await self._all_ended.wait()

    async def wait_news(self) -> None:
        """Returns when there is output to take, or all of it has ended."""
        await self._news.wait()

    def take(self) -> tuple[str, bytes] | None:
        """The next piece of output, if there is one now."""
        if not self._chunks:
            if self._readers:
                self._news.clear()
            return None
        name, data = self._chunks.popleft()
        for paused in list(self._paused):
            self._resume(paused)
        return name, data

    async def write(self, data: bytes) -> None:
        """Writes to the process' input, as fast as it reads. Raises BrokenPipeError where there is none."""
        rest = memoryview(data)
        while rest:
            if self._input < 0:
                raise BrokenPipeError("the exec has no input, or it is closed")
            try:
                rest = rest[os.write(self._input, rest) :]
            except BlockingIOError:
                await self._wait_writable()

    async def drain_input(self) -> None:
        """Returns when the shim has taken everything that was written; what is still in a pipe is lost on close."""
        waiting = array.array("i", [0])
        while self._input >= 0:
            fcntl.ioctl(self._input, termios.FIONREAD, waiting)
            if not waiting[0]:
                return
            await asyncio.sleep(_DRAIN_INTERVAL)

    def close_input(self) -> None:
        if self._input >= 0:
            os.close(self._input)
            self._input = -1

    def read_rest(self) -> None:
        """Takes what is in the pipes now, and reads no more: after the end of the process and of the shim's copying."""
        for name in list(self._readers):
            self._paused.discard(name)
            while name in self._readers and self._read(name):
                pass
            self._end(name)

    def close(self) -> None:
        """Closes everything and removes the folder."""
        for name in list(self._readers):
            self._end(name)
        self.close_input()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _resume(self, name: str) -> None:
        self._paused.discard(name)
        if name in self._readers:
            asyncio.get_running_loop().add_reader(self._readers[name], self._readable, name)

    def _readable(self, name: str) -> None:
        self._read(name)
        if len(self._chunks) >= _MOST_CHUNKS and name in self._readers:
            asyncio.get_running_loop().remove_reader(self._readers[name])
            self._paused.add(name)

    def _read(self, name: str) -> bool:
        """Whether there was something to read."""
        try:
            data = os.read(self._readers[name], _CHUNK)
        except BlockingIOError:
            return False
        if data:
            self._chunks.append((name, data))
            self.taken += 1
            self._news.set()
        else:
            self._end(name)
        return bool(data)

    def _end(self, name: str) -> None:
        descriptor = self._readers.pop(name, None)
        if descriptor is not None:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)
        if not self._readers:
            self._news.set()
            self._all_ended.set()

    async def _wait_writable(self) -> None:
        loop = asyncio.get_running_loop()
        writable = loop.create_future()
        loop.add_writer(self._input, writable.set_result, None)
        try:
            await writable
        finally:
            loop.remove_writer(self._input)
