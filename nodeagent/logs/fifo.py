"""The reading end of a container's output: a FIFO that is looked at first and emptied after the log is written.

`tee(2)` copies what is in the FIFO without taking it out. The bytes leave the FIFO only when they are in the log file,
so a pump that is killed in between loses nothing: the next one finds them still there, and at worst writes one batch a
second time. An incomplete line stays in the FIFO too, which is why thousands of streams need no buffers of their own.
"""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import os
import select
import stat
import termios
from pathlib import Path
from typing import Final

# What a container can write while nobody reads. 1 MiB is what the kernel lets everybody have (fs.pipe-max-size).
CAPACITY: Final = 1 << 20
# Bytes taken at a time: large enough that the system calls do not count, small enough to be fair to other streams.
BATCH: Final = 1 << 17

_SPLICE_F_NONBLOCK: Final = 2
_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.tee.restype = ctypes.c_ssize_t
_libc.tee.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.c_uint)


class Scratch:
    """A pipe that copies are made into, and memory where taken bytes go; both serve all streams."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        _enlarge(self._writer)
        # Written once, so that its pages are there: see `take`.
        self._taken = bytearray(b"\n" * BATCH)

    def peek(self, fifo: int) -> bytes:
        """What is in `fifo`, at most BATCH bytes; they stay in it."""
        copied: int = _libc.tee(fifo, self._writer, BATCH, _SPLICE_F_NONBLOCK)
        if copied < 0:
            number = ctypes.get_errno()
            if number in (errno.EAGAIN, errno.EINTR):
                return b""
            raise OSError(number, os.strerror(number))
        return os.read(self._reader, copied) if copied else b""

    def take(self, fifo: int, count: int) -> None:
        """Takes `count` bytes, which were seen before, out of `fifo`; all of them, or none if we are killed.

        A read of what is there into memory that is there cannot be interrupted. A splice to /dev/null can: SIGKILL
        ends it between two pages, and the next process would find half a line.
        """
        while count:
            count -= os.readv(fifo, [memoryview(self._taken)[:count]])

    def close(self) -> None:
        for descriptor in (self._reader, self._writer):
            os.close(descriptor)


def open_fifo(path: Path) -> int:
    """A descriptor of the FIFO at `path`, which is made if nothing is there.

    It is opened for both directions: opening does not wait for the other end, a container that writes while this
    process lives never gets SIGPIPE, and the end of one writer is not the end of the stream.
    """
    try:
        os.mkfifo(path, 0o600)
    except FileExistsError:
        if not stat.S_ISFIFO(path.stat().st_mode):
            raise NotAFifo(f"{path} exists and is not a FIFO") from None
    return reopen_fifo(path)


def reopen_fifo(path: Path) -> int:
    """A descriptor of the FIFO at `path`, which must exist."""
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    _enlarge(descriptor)
    return descriptor


def is_at(descriptor: int, path: Path) -> bool:
    """Whether `descriptor` is what is at `path` now."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def is_full(fifo: int) -> bool:
    """Whether a writer would block now."""
    poller = select.poll()
    poller.register(fifo, select.POLLOUT)
    return not poller.poll(0)


def is_half_full(fifo: int) -> bool:
    """Whether it is time to make room. A FIFO counts pages, not bytes: many tiny writes fill it too."""
    waiting = array.array("i", [0])
    fcntl.ioctl(fifo, termios.FIONREAD, waiting)
    return waiting[0] * 2 >= fcntl.fcntl(fifo, fcntl.F_GETPIPE_SZ) or is_full(fifo)


def _enlarge(descriptor: int) -> None:
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, CAPACITY)
    except PermissionError:
        # An unprivileged user at the limit of fs.pipe-user-pages-soft keeps the size that the kernel chose.
        pass


class NotAFifo(Exception):
    """Something else is at the path of a FIFO."""
