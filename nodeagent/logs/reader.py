"""Reading a container's log back: what it wrote, across rotated files, and what it goes on writing.

Files are read in worker threads and only in whole lines: a line that the pump was killed in the middle of is cut off
and written again by the next pump, so its first half must not have been used.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from nodeagent.logs.inotify import FileWatch
from nodeagent.logs.logfile import rotated

_BLOCK: Final = 1 << 18
_TAIL_BLOCK: Final = 1 << 16
# Pieces of one line that are held to be joined; a line that goes on is then handed out unfinished.
_LONGEST_LINE: Final = 1 << 20

_FULL_PREFIX: Final = re.compile(rb"^(\S+) \S+ F ", re.MULTILINE)
_FULL_LINE: Final = re.compile(rb"^\S+ \S+ F [^\n]*\n", re.MULTILINE)


async def read_logs(
    path: Path, *, follow: bool, tail: int | None, timestamps: bool, ended: asyncio.Event
) -> AsyncIterator[bytes]:
    """What the container wrote to stdout and stderr, in order, in blocks.

    `tail` begins that many lines before the end. `timestamps` puts the time of writing before each line. With `follow`
    it goes on until `ended` is set and the log is read to its end; the file need not be there yet, but its folder must.
    Without, a log that is not there raises FileNotFoundError.
    """
    decoder = Decoder(timestamps=timestamps)
    with ExitStack() as resources:
        watch = resources.enter_context(FileWatch(path)) if follow else None
        cursor = Cursor(path)
        resources.callback(cursor.close)
        await asyncio.to_thread(cursor.open, tail)
        if watch is None and not cursor.is_open:
            raise FileNotFoundError(f"there is no log at {path}")
        while True:
            last = watch is None or ended.is_set()
            if watch is not None:
                watch.changed.clear()
            block = await asyncio.to_thread(cursor.read)
            if block:
                if text := decoder.feed(block):
                    yield text
            elif last:
                break
            elif watch is not None:
                await _wait_any(watch.changed, ended)
    if rest := decoder.finish():
        yield rest


async def _wait_any(*events: asyncio.Event) -> None:
    waits = [asyncio.create_task(event.wait(), name="log reader waits") for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


class Decoder:
    """Log lines to what the container wrote: prefixes off, pieces of long lines joined."""

    def __init__(self, *, timestamps: bool) -> None:
        self._timestamps = timestamps
        self._replacement = rb"\1 " if timestamps else b""
        # Stream -> the pieces of its unfinished line.
        self._unfinished: dict[bytes, bytearray] = {}

    def feed(self, lines: bytes) -> bytes:
        """`lines` are whole."""
        if not self._unfinished:
            text, count = _FULL_PREFIX.subn(self._replacement, lines)
            if count == lines.count(b"\n"):
                return text
        return b"".join(map(self._line, lines.splitlines(keepends=True)))

    def finish(self) -> bytes:
        """Lines that nobody finished."""
        rest = b"".join(self._unfinished.values())
        self._unfinished.clear()
        return rest

    def _line(self, line: bytes) -> bytes:
        try:
            stamp, stream, tag, content = line.split(b" ", 3)
        except ValueError:
            # Not a line of ours: shown as it is.
            return line
        pieces = self._unfinished.get(stream)
        if pieces is None:
            pieces = bytearray(stamp + b" " if self._timestamps else b"")
        if tag == b"P":
            pieces += content.removesuffix(b"\n")
            self._unfinished[stream] = pieces
            if len(pieces) < _LONGEST_LINE:
                return b""
            ready = bytes(pieces)
            pieces.clear()
            return ready
        self._unfinished.pop(stream, None)
        return bytes(pieces + content)


class Cursor:
    """A position in a log that goes on from each rotated file to the next. Its methods block on the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Descriptors, oldest first: all are held open, so that a rotation deletes nothing that is still to be read.
        self._files: deque[int] = deque()
        self._offset = 0

    @property
    def is_open(self) -> bool:
        return bool(self._files)

    def open(self, tail: int | None = None) -> None:
        """Goes to the beginning of the oldest file, or to where the last `tail` lines begin."""
        self._files.extend(self._newer())
        if tail is not None:
            skipped, self._offset = _tail_start(list(self._files), tail)
            for _ in range(skipped):
                os.close(self._files.popleft())

    def read(self) -> bytes:
        """The next whole lines; empty where there are no more now."""
        while True:
            if len(self._files) < 2:
                # Looked up before the read, which then sees all that was written before the rotation.
                self._files.extend(self._newer())
            if not self._files:
                return b""
            is_newest = len(self._files) == 1
            block = os.pread(self._files[0], _BLOCK, self._offset)
            end = block.rfind(b"\n") + 1
            if end:
                self._offset += end
                return block[:end]
            if is_newest:
                return b""
            os.close(self._files.popleft())
            self._offset = 0

    def close(self) -> None:
        while self._files:
            os.close(self._files.popleft())

    def _newer(self) -> list[int]:
        """Descriptors of the files that came after the newest that is open, oldest first."""
        newest = os.fstat(self._files[-1]).st_ino if self._files else None
        newer: dict[int, int] = {}
        for path in self._newest_first():
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                # Rotated, or deleted by a rotation, since its name was read.
                continue
            inode = os.fstat(descriptor).st_ino
            if inode != newest and inode not in newer:
                newer[inode] = descriptor
                continue
            os.close(descriptor)
            if inode == newest:
                break
        return list(reversed(newer.values()))

    def _newest_first(self) -> Iterator[Path]:
        yield self._path
        yield from reversed(rotated(self._path))


def _tail_start(files: Sequence[int], lines: int) -> tuple[int, int]:
    """Where the last `lines` lines begin: the index of a file, and an offset in it. Read backwards in blocks."""
    wanted = lines
    size = _TAIL_BLOCK
    for index in reversed(range(len(files))):
        end = os.fstat(files[index]).st_size
        while end:
            start = max(0, end - size)
            block = os.pread(files[index], end - start, start)
            if start:
                # The line that the block cuts is left to the block before.
                cut = block.find(b"\n") + 1
                if cut in (0, len(block)):
                    size *= 2
                    continue
                block, start = block[cut:], start + cut
            line_ends = [match.end() for match in _FULL_LINE.finditer(block)]
            if wanted < len(line_ends):
                return index, start + line_ends[-wanted - 1]
            wanted -= len(line_ends)
            end = start
    return 0, 0
