"""Runs ADD or DEL in children that are killed with SIGKILL, each at another line of our code; a program of its own.

`python -m tests.integration.cni.killed VERB STATE_DIR NETNS FIRST STEP`: in the network namespace it is started in. The
child with number n dies before the n-th line that it executes in `cni/`. After each, what it left is checked: a new
process repeats the call, or collects the garbage, and what is there must be as before. Prints how often it killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import FrameType
from typing import Any

import cni
from cni import rtnetlink
from cni.conflist import default_conflist
from cni.namespaces import run_in
from cni.netlink import Netlink
from cni.runner import Network

OURS = os.path.dirname(cni.__file__)  # noqa: PTH120 - a prefix to compare with, as text


class Killer:
    """Counts the lines of `cni/` that any thread executes, and kills the process before the last one."""

    def __init__(self, lines: int) -> None:
        self._left = lines

    def trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        if event == "line":
            self._left -= 1
            if self._left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return self.trace


def in_child(work: Callable[[], Coroutine[Any, Any, None]], killer: Killer | None = None) -> bool:
    """Whether the child came to its end; it must do so where nobody kills it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if killer is not None:
                threading.settrace(killer.trace)
                sys.settrace(killer.trace)
            asyncio.run(work())
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL and killer is not None:
        return False
    assert os.waitstatus_to_exitcode(status) == 0
    return True


def interfaces() -> list[str]:
    with Netlink() as kernel:
        return sorted(link.name for link in rtnetlink.links(kernel))


def main() -> None:
    verb, state_dir, netns = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    first, step = int(sys.argv[4]), int(sys.argv[5])
    conflist = default_conflist("10.244.1.0/24")

    def network() -> Network:
        return Network(conflist, state_dir=state_dir)

    async def add() -> None:
        await network().add("c1", netns)

    async def delete() -> None:
        await network().delete("c1", netns)

    async def collect() -> None:
        await network().gc(keep=[])

    def assert_clean(when: str) -> None:
        addresses = list((state_dir / "podwire" / "addresses").iterdir())
        attachments = list((state_dir / "attachments").iterdir())
        inside = run_in(netns, interfaces)
        assert interfaces() == ["lo", "podwire0"], (when, interfaces())
        assert (addresses, attachments, inside) == ([], [], ["lo"]), (when, addresses, attachments, inside)

    in_child(add)
    in_child(delete)
    kills = 0
    for number in range(first, 100_000, step):
        when = f"{verb} killed at line {number}"
        if verb == "DEL":
            in_child(add)
        ended = in_child(add if verb == "ADD" else delete, Killer(number))
        # What comes next differs: an agent that tries again, one that deletes, one that only sweeps.
        if kills % 3 == 0:
            in_child(add)
        if kills % 3 == 1:
            in_child(delete)
        else:
            in_child(collect)
        assert_clean(when)
        if ended:
            break
        kills += 1
    print(kills)


if __name__ == "__main__":
    main()
