"""Shims that containerd has forgotten.

An agent that is killed while it waits for the deletion of a pod's last task has containerd give that call up, after the
task and before its shim. Nobody ends that shim then, and containerd does not know of it any more.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import structlog

from nodeagent.processes import Process

log = structlog.get_logger(__name__)

_PROGRAM: Final = "containerd-shim-runc-v2"
_ACTIONS: Final = ("start", "delete")
"""What the program does on the way to a shim and after one; those processes end by themselves."""
_GRACE_SECONDS: Final = 5.0
_LISTENING: Final = "00010000"
"""__SO_ACCEPTCON among a Unix socket's flags in /proc/net/unix."""


@dataclass(frozen=True, slots=True)
class Shim:
    """`id` is the container that it was started for: the first of its group."""

    pid: int
    id: str


def running(socket: Path, namespace: str, proc: Path = Path("/proc")) -> Iterator[Shim]:
    """The shims of the containerd at `socket` for containers in `namespace`."""
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().rstrip(b"\0").decode(errors="replace").split("\0")
        except OSError:
            # It has ended since.
            continue
        if not words[0].endswith(_PROGRAM) or words[-1] in _ACTIONS:
            continue
        given = dict(pairwise(words))
        if given.get("-address") == str(socket) and given.get("-namespace") == namespace and "-id" in given:
            yield Shim(int(entry.name), given["-id"])


async def end_forgotten(socket: Path, namespace: str, is_forgotten: Callable[[str], bool]) -> int:
    """Ends the shims whose container's id `is_forgotten`, and removes their sockets; how many there were."""
    found = [shim for shim in await asyncio.to_thread(list, running(socket, namespace)) if is_forgotten(shim.id)]
    await asyncio.gather(*(_end(shim) for shim in found))
    return len(found)


async def _end(shim: Shim) -> None:
    try:
        process = Process(shim.pid)
    except ProcessLookupError:
        return
    with process:
        sockets = await asyncio.to_thread(_listening, shim.pid)
        log.warning("ending a shim that containerd has forgotten", shim=shim.id, pid=shim.pid)
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                process.send(number)
                async with asyncio.timeout(_GRACE_SECONDS):
                    await process.wait()
                break
            except ProcessLookupError:
                break
            except TimeoutError:
                continue
    for path in sockets:
        path.unlink(missing_ok=True)


def _listening(pid: int) -> list[Path]:
    """The Unix sockets that the process listens on."""
    folder = Path("/proc") / str(pid)
    try:
        targets = [(folder / "fd" / entry.name).readlink().name for entry in (folder / "fd").iterdir()]
        lines = (folder / "net/unix").read_text().splitlines()[1:]
    except OSError:
        return []
    inodes = {target.removeprefix("socket:[").rstrip("]") for target in targets}
    fields = [line.split() for line in lines]
    # Num RefCount Protocol Flags Type St Inode Path, and no path where the socket has none.
    return [Path(f[7]) for f in fields if len(f) == 8 and f[3] == _LISTENING and f[6] in inodes and f[7][0] == "/"]
