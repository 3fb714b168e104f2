"""A sandbox's namespaces, pinned as files, so that nothing ever has to find them through a process.

`/proc/<pid>/ns/*` of a pause process that has died may be another process' by then. A bind mount of the namespace
cannot change its meaning. It is also there before the first process, so that the network is set up and containers are
prepared while pause starts.

Namespaces belong to threads. A thread of its own unshares, pins, and ends: no fork in a process with gRPC's threads,
and no thread of a pool is left in a pod's network.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import fcntl
import os
import select
import shutil
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

_CLONE: Final[Mapping[str, int]] = {"uts": 0x04000000, "ipc": 0x08000000, "net": 0x40000000}
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND = 0x2, 0x4, 0x8, 0x1000
_MNT_DETACH, _UMOUNT_NOFOLLOW = 0x2, 0x8
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1
_libc: Final = ctypes.CDLL(None, use_errno=True)


async def create(folder: Path, kinds: tuple[str, ...], *, hostname: str) -> None:
    """Makes namespaces of `kinds` (net, ipc, uts) and pins each as a file of that name in `folder`.

    The loopback interface is up, the host name set. On failure nothing is left pinned. Raises OSError.
    """

    def work() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as undo:
            _checked(_libc.unshare(sum(_CLONE[kind] for kind in kinds)), f"cannot unshare {', '.join(kinds)}")
            if "uts" in kinds:
                socket.sethostname(hostname)
            if "net" in kinds:
                _raise_loopback()
            for kind in kinds:
                _pin(f"/proc/thread-self/ns/{kind}", folder / kind)
                undo.callback(_unmount, folder / kind)
            undo.pop_all()

    await _in_own_thread(work)


def pin_pid_namespace(pid: int, target: Path) -> None:
    """Pins the PID namespace of the living process `pid`. Raises ProcessLookupError where it has ended."""
    process = os.pidfd_open(pid)
    try:
        _pin(f"/proc/{pid}/ns/pid", target)
        poll = select.poll()
        poll.register(process, select.POLLIN)
        if poll.poll(0):
            _unmount(target)
            raise ProcessLookupError(errno.ESRCH, "the process has ended", str(pid))
    finally:
        os.close(process)


def mount_shm(target: Path, size: int) -> None:
    """Mounts the pod's /dev/shm, a tmpfs of `size` bytes that its containers share."""
    target.mkdir(exist_ok=True)
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    result = _libc.mount(b"shm", os.fsencode(target), b"tmpfs", flags, f"mode=1777,size={size}".encode())
    _checked(result, f"cannot mount a tmpfs at {target}")


def remove(folder: Path) -> None:
    """Unmounts everything directly in `folder`, and removes it. What is gone already is no error."""
    try:
        entries = list(folder.iterdir())
    except FileNotFoundError:
        return
    for entry in entries:
        _unmount(entry)
    shutil.rmtree(folder)


def _pin(source: str, target: Path) -> None:
    target.touch()
    _checked(_libc.mount(source.encode(), os.fsencode(target), None, _MS_BIND, None), f"cannot pin {target}")


def _unmount(target: Path) -> None:
    # Pinned twice by a call that came again, it is mounted twice.
    while _libc.umount2(os.fsencode(target), _MNT_DETACH | _UMOUNT_NOFOLLOW) == 0:
        pass


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack("16sh22x", b"lo", 0))
        flags = struct.unpack_from("16sh", request)[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | _IFF_UP))


def _checked(result: int, problem: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{problem}: {os.strerror(number)}")


async def _in_own_thread(work: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        failure: BaseException | None = None
        try:
            work()
        except BaseException as error:
            failure = error
        loop.call_soon_threadsafe(settle, failure)

    thread = threading.Thread(target=run, name="namespaces", daemon=True)
    thread.start()
    try:
        await done
    finally:
        # It ends right after it has said so; on cancellation its work, a few milliseconds, is awaited all the same, or
        # the clean-up that follows would meet it.
        thread.join()
