"""Waking when a log file grows or is replaced: inotify through ctypes, since the standard library has none."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_IN_MODIFY: Final = 0x2
_IN_MOVED_TO: Final = 0x80
_IN_CREATE: Final = 0x100
_HEADER: Final = struct.Struct("iIII")  # inotify(7): watch, mask, cookie, length of the name that follows

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.inotify_init1.argtypes = (ctypes.c_int,)
_libc.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)


class FileWatch:
    """Sets `changed` when the file at `path` is written to, made, or replaced. Its folder must exist.

    The file itself is watched for writes and its folder for new names, so that the writes to other files in the folder
    wake nobody.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.changed = asyncio.Event()

    def __enter__(self) -> Self:
        self._descriptor = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), self._path)
        try:
            self._watch(self._path.parent, _IN_CREATE | _IN_MOVED_TO)
            self._watch_file()
            asyncio.get_running_loop().add_reader(self._descriptor, self._read)
        except BaseException:
            os.close(self._descriptor)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _read(self) -> None:
        events = os.read(self._descriptor, 1 << 16)
        position = 0
        while position < len(events):
            _, mask, _, length = _HEADER.unpack_from(events, position)
            position += _HEADER.size
            name = events[position : position + length].rstrip(b"\0")
            position += length
            if mask & _IN_MODIFY:
                self.changed.set()
            elif os.fsdecode(name) == self._path.name:
                # Watched before it is read, so that no write falls between the two.
                self._watch_file()
                self.changed.set()

    def _watch_file(self) -> None:
        try:
            self._watch(self._path, _IN_MODIFY)
        except FileNotFoundError:
            # It is being rotated, or not there yet: its folder tells when it is.
            pass

    def _watch(self, path: Path, mask: int) -> None:
        _checked(_libc.inotify_add_watch(self._descriptor, os.fsencode(path), mask), path)


def _checked(result: int, path: Path) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))
    return result
