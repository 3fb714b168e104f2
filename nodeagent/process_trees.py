"""A process and all that came of it, told from the others of its container.

runc makes every exec the leader of a session, which its descendants stay in when their parents end, unless one of them
begins a session of its own: such a daemon is found while its parent lives, and is the container's own afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nodeagent.processes import kill


@dataclass(frozen=True, slots=True)
class Kinship:
    """Where a process comes from."""

    parent: int
    session: int


def parse_stat(text: str) -> Kinship:
    """What /proc/<pid>/stat says of it; the second field, the name, may hold anything."""
    fields = text.rpartition(")")[2].split()
    return Kinship(parent=int(fields[1]), session=int(fields[3]))


def tree_of(root: int, processes: Mapping[int, Kinship]) -> set[int]:
    """Those of `processes` that are `root`, of its session, or descend from one that is."""
    found = {pid for pid, kin in processes.items() if pid == root or kin.session == root}
    while more := {pid for pid, kin in processes.items() if kin.parent in found} - found:
        found |= more
    return found


async def kill_tree(root: int, processes: Callable[[], Iterable[int]], *, timeout: float = 10.0) -> None:
    """Kills `root` and what came of it, among what `processes` lists, until none is left. Raises TimeoutError."""
    async with asyncio.timeout(timeout):
        while found := tree_of(root, _read(processes())):
            async with asyncio.TaskGroup() as owner:
                for pid in found:
                    owner.create_task(kill(pid), name="kill")


def _read(pids: Iterable[int]) -> dict[int, Kinship]:
    found = {}
    for pid in pids:
        try:
            found[pid] = parse_stat(Path(f"/proc/{pid}/stat").read_text())
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found
