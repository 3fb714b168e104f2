"""mount(2) and umount(2), without forking mount(8)."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_MS_NOSUID: Final = 2
_MS_NODEV: Final = 4
_MNT_DETACH: Final = 2


def mount_tmpfs(target: Path, options: str) -> None:
    """Mounts a tmpfs on `target` with tmpfs(5)'s options, as in `mode=0777,size=1048576`."""
    flags = _MS_NOSUID | _MS_NODEV
    _check(_LIBC.mount(b"tmpfs", bytes(target), b"tmpfs", ctypes.c_ulong(flags), options.encode()), target)


def unmount(target: Path) -> None:
    """Detaches what is mounted on `target`: it is gone at once, though something may still use it."""
    _check(_LIBC.umount2(bytes(target), _MNT_DETACH), target)


def mounts_below(folder: Path) -> list[Path]:
    """The mount points in `folder`, innermost first."""
    prefix = f"{folder}/"
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split(" ")[4].encode().decode("unicode_escape")
        if point.startswith(prefix):
            found.append(Path(point))
    return sorted(found, key=lambda path: len(path.parts), reverse=True)


def _check(result: int, target: Path) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))
