"""hostPath: a file or folder of the node, checked against the type that the pod names.

Types and messages are Kubernetes' (pkg/volume/hostpath): no type checks nothing and lets a missing folder be made.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from podwire import v1


class WrongType(Exception):
    """What is at the path is not what the volume asks for."""


_CHECKS: Final[Mapping[str, tuple[Callable[[int], bool], str]]] = {
    "Directory": (stat.S_ISDIR, "directory"),
    "DirectoryOrCreate": (stat.S_ISDIR, "directory"),
    "File": (stat.S_ISREG, "file"),
    "FileOrCreate": (stat.S_ISREG, "file"),
    "Socket": (stat.S_ISSOCK, "socket file"),
    "CharDevice": (stat.S_ISCHR, "character device"),
    "BlockDevice": (stat.S_ISBLK, "block device"),
}


def make(source: v1.HostPathVolumeSource) -> Path:
    """The path to mount, made where its type allows that. Raises WrongType."""
    path = Path(source.path)
    kind = source.type
    if not path.exists():
        if kind in ("", "DirectoryOrCreate"):
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
        elif kind == "FileOrCreate":
            # Its folder must be there: a misspelt path is not to be made in full.
            path.touch(mode=0o644)
    if kind in _CHECKS:
        check, noun = _CHECKS[kind]
        if not path.exists() or not check(path.stat().st_mode):
            raise WrongType(f"hostPath type check failed: {path} is not a {noun}")
    return path
