"""Control groups of pods and containers, in version 1, version 2 and the hybrid of both.

runc makes a container's groups; what is done here is what it leaves to others: killing everything in one, telling
whether the kernel killed something for its memory, and removing the pod's groups at the end. Paths are relative to
the hierarchies' roots and begin with a slash, as in /proc/<pid>/cgroup.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from nodeagent.processes import kill

_V2_MEMORY_EVENTS: Final = "memory.events"
_V1_MEMORY_EVENTS: Final = "memory.oom_control"
_BUSY: Final = 0.02
"""Seconds until a group is tried again that the kernel calls busy: a process in it is just ending, or just came."""


class Mode(StrEnum):
    """Which version has the controllers. In the hybrid, version 1 has them and version 2 is there beside it."""

    V1 = "v1"
    HYBRID = "hybrid"
    V2 = "v2"


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted tree of groups; `controllers` is empty for version 2."""

    root: Path
    controllers: frozenset[str] = frozenset()


def parse_mounts(mountinfo: str) -> tuple[Mode, tuple[Hierarchy, ...]]:
    """The hierarchies in /proc/self/mountinfo. Raises LookupError where there are none."""
    first: dict[frozenset[str], Hierarchy] = {}
    unified: Hierarchy | None = None
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        root = Path(before.split()[4].replace("\\040", " "))
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup2":
            unified = unified or Hierarchy(root)
        elif kind == "cgroup":
            names = frozenset(options.split()[-1].split(",")) - {"rw", "ro", "xattr", "clone_children"}
            first.setdefault(names, Hierarchy(root, names))
    legacy = tuple(first.values())
    if legacy:
        return (Mode.HYBRID, (*legacy, unified)) if unified else (Mode.V1, legacy)
    if unified:
        return Mode.V2, (unified,)
    raise LookupError("no cgroup file system is mounted: mount one at /sys/fs/cgroup")


class Cgroups:
    """The groups of this machine."""

    def __init__(self, mode: Mode, hierarchies: tuple[Hierarchy, ...]) -> None:
        self.mode = mode
        self._hierarchies = hierarchies

    @classmethod
    def mounted(cls) -> Cgroups:
        """Those that are mounted here. Raises LookupError where there are none."""
        return cls(*parse_mounts(Path("/proc/self/mountinfo").read_text()))

    def processes(self, path: str) -> set[int]:
        """The processes in `path` and below it."""
        found: set[int] = set()
        for group in self._groups(path):
            try:
                found.update(int(line) for line in (group / "cgroup.procs").read_text().split())
            except OSError as error:
                # Removed while it was looked at; a threaded group of version 2 has no list of processes.
                if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
                    raise
        return found

    async def kill(self, path: str, *, timeout: float = 10.0) -> None:
        """Kills every process in `path` and below it, and waits for their ends. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            # One that forks while it is looked for is found in the next round.
            while processes := self.processes(path):
                async with asyncio.TaskGroup() as owner:
                    for process in processes:
                        owner.create_task(kill(process), name="kill")

    def out_of_memory(self, path: str) -> bool:
        """Whether the kernel has killed a process of `path` for want of memory."""
        for hierarchy in self._hierarchies:
            if hierarchy.controllers and "memory" not in hierarchy.controllers:
                continue
            events = _V1_MEMORY_EVENTS if hierarchy.controllers else _V2_MEMORY_EVENTS
            try:
                lines = (hierarchy.root / path.lstrip("/") / events).read_text().splitlines()
            except OSError:
                continue
            if any(line.startswith("oom_kill ") and line != "oom_kill 0" for line in lines):
                return True
        return False

    def contains(self, path: str, pid: int) -> bool:
        """Whether process `pid` lives, and is in `path` or below it."""
        try:
            lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            return False
        return any(f"{group}/".startswith(f"{path}/") for _, _, group in (line.split(":", 2) for line in lines))

    def children(self, path: str) -> set[str]:
        """The names of the groups directly in `path`."""
        names: set[str] = set()
        for hierarchy in self._hierarchies:
            try:
                names.update(entry.name for entry in os.scandir(hierarchy.root / path.lstrip("/")) if entry.is_dir())
            except FileNotFoundError:
                pass
        return names

    async def remove(self, path: str, *, timeout: float = 10.0) -> None:
        """Kills what is in `path` and removes it with what is below it, in every hierarchy. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while True:
                await self.kill(path, timeout=timeout)
                if self._remove_empty(path):
                    return
                await asyncio.sleep(_BUSY)

    def _remove_empty(self, path: str) -> bool:
        for group in self._groups(path):
            try:
                group.rmdir()
            except FileNotFoundError:
                pass
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                return False
        return True

    def _groups(self, path: str) -> Iterator[Path]:
        """The folders of `path` in all hierarchies, the deepest first."""
        for hierarchy in self._hierarchies:
            for folder, _, _ in os.walk(hierarchy.root / path.lstrip("/"), topdown=False):
                yield Path(folder)
