"""Child processes, one a role or several of the API: started again when they die, and never left behind.

Children are told their parent's process id and ask the kernel for SIGKILL when it is gone (PR_SET_PDEATHSIG), so that
`kill -9` of the supervisor leaves nothing that acts.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from podwire.backoff import Backoff

log = structlog.get_logger(__name__)

# Set in a child's environment: whose child it is.
PARENT_VARIABLE: Final = "PODWIRE_SUPERVISOR"
# Seconds before a child that died is started again: at once where it happens once, rarely where it always happens.
_BACKOFF_FIRST: Final = 0.1
_BACKOFF_CAP: Final = 5.0
# A child that ran this long was well; its next death counts as the first.
_GOOD_RUN: Final = 30.0
# Seconds that children have to end after SIGTERM: open requests of the API get most of them.
_GRACE: Final = 10.0
_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True)
class Child:
    # In the log.
    name: str
    # Of the command line, before the arguments that all children have.
    arguments: tuple[str, ...]


def die_with_parent() -> None:
    """Called first in a child: it ends when its supervisor does."""
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is None:
        return
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != int(parent):
        # It died before the kernel was asked.
        sys.exit("the supervisor is gone")


async def supervise(children: Sequence[Child], arguments: Sequence[str]) -> None:
    """Runs every child with `arguments`, until SIGTERM or SIGINT; returns when all have ended."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as owner:
        for child in children:
            owner.create_task(_keep(child, arguments, stop), name=child.name)


async def _keep(kept: Child, arguments: Sequence[str], stop: asyncio.Event) -> None:
    clock = asyncio.get_running_loop().time
    backoff = Backoff(_BACKOFF_FIRST, _BACKOFF_CAP)
    while not stop.is_set():
        began = clock()
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "controlplane",
            *kept.arguments,
            *arguments,
            env={**os.environ, PARENT_VARIABLE: str(os.getpid())},
            # Its own group: a terminal's ^C comes to the supervisor, which passes on what is meant.
            process_group=0,
        )
        log.info("role started", child=kept.name, pid=child.pid)
        if await _ended(child, stop):
            return
        if clock() - began > _GOOD_RUN:
            backoff.reset()
        delay = backoff.next()
        log.error(
            "role died, starting it again", child=kept.name, exit_status=child.returncode, after_s=round(delay, 2)
        )
        await _wait(stop, delay)


async def _ended(child: asyncio.subprocess.Process, stop: asyncio.Event) -> bool:
    """Waits for the child's end, and brings it about when all is to stop; whether that was so."""
    async with asyncio.TaskGroup() as owner:
        asked = owner.create_task(stop.wait())
        death = owner.create_task(child.wait())
        await asyncio.wait([asked, death], return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if death.done():
            return False
        child.terminate()
        try:
            async with asyncio.timeout(_GRACE):
                await asyncio.shield(death)
        except TimeoutError:
            log.warning("role does not end, killing it", pid=child.pid)
            child.kill()
        return True


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass  # The time has passed.
