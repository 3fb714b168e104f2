"""A container's log file and its rotation, named as the kubelet names them: `NAME.log`, `NAME.log.<time>`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from nodeagent.logs.cri import MAX_LINE

_READ_BACK: Final = 2 * MAX_LINE


def rotated(path: Path) -> list[Path]:
    """The rotated files of the log at `path`, oldest first. Raises FileNotFoundError where its folder is missing."""
    return sorted(file for file in path.parent.iterdir() if file.name.startswith(f"{path.name}."))


class LogFile:
    """Appends whole batches of lines; a batch that cannot be written leaves the file as it was.

    A file is rotated before it would grow beyond `max_size` bytes; `max_files` are kept, the current one included
    (the kubelet's containerLogMaxSize and containerLogMaxFiles).
    """

    def __init__(self, path: Path, *, max_size: int, max_files: int) -> None:
        self.path = path
        self._max_size = max_size
        self._max_files = max_files
        self._descriptor = -1
        self._size = 0

    def open(self) -> None:
        """Opens the file if it is not open. Raises OSError."""
        if self._descriptor >= 0:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            self._size = _cut_torn_line(descriptor)
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def append(self, lines: bytes) -> None:
        """Writes `lines` with one call. Raises OSError, and then nothing of them is in the file."""
        self.open()
        if self._size and self._size + len(lines) > self._max_size:
            self._rotate()
        written = 0
        try:
            written = os.write(self._descriptor, lines)
            while written < len(lines):
                # A short write is a disk that has just become full: the rest says so with an error.
                written += os.write(self._descriptor, memoryview(lines)[written:])
        except OSError:
            if written:
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size += written

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _rotate(self) -> None:
        kept = max(0, self._max_files - 2)  # beside the file that is rotated now and the new one
        old = rotated(self.path)
        for surplus in old[: max(0, len(old) - kept)]:
            surplus.unlink(missing_ok=True)
        if self._max_files > 1:
            now = time.time_ns()
            stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now // 1_000_000_000))
            # The kubelet's names, and microseconds, so that a fast writer's files keep apart.
            self.path.rename(f"{self.path}.{stamp}.{now // 1000 % 1_000_000:06d}")
        else:
            self.path.unlink()
        self.close()
        self.open()


def _cut_torn_line(descriptor: int) -> int:
    """The file's size, after a last line without an end is cut off.

    Such a line is what a kill in the middle of a write left. Its bytes have not been taken from the FIFO, so they
    are written again.
    """
    size = os.fstat(descriptor).st_size
    start = max(0, size - _READ_BACK)
    end = os.pread(descriptor, size - start, start)
    if not end or end.endswith(b"\n"):
        return size
    whole = start + end.rfind(b"\n") + 1
    os.ftruncate(descriptor, whole)
    return whole
