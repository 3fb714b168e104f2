"""How containers end: noticed at once, written down once, and then what is left of them is cleared away.

Two sources tell of an end, containerd's events and a pidfd, because neither is enough: events are lost while containerd
restarts, and a pidfd knows no exit code. Whichever comes first wins. The exit goes into the container's labels before
the task, which knows it too, is deleted; an agent killed in between does the rest when it looks at the pod again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog

from nodeagent import labels
from nodeagent.containerd.client import ContainerdError, NotFound, RuntimeUnavailable
from nodeagent.containerd.records import Records
from nodeagent.model import ContainerId, Exit, PodUid
from nodeagent.processes import Process
from nodeagent.sandboxes.cgroups import Cgroups

log = structlog.get_logger(__name__)

KILLED: Final = 137
"""128 + SIGKILL: what is assumed of a process whose end nobody saw."""
UNKNOWN_REASON: Final = "ContainerStatusUnknown"
_RETRY: Final = 1.0
"""Seconds between attempts while containerd does not answer."""


@dataclass(slots=True)
class _Expected:
    pod: PodUid
    cgroup: str
    done: asyncio.Future[Exit]
    noted: Exit | None = None
    watched: bool = False
    finish: Callable[[], Awaitable[None]] | None = None
    finished: asyncio.Event = field(default_factory=asyncio.Event)


class Exits:
    """The containers whose ends are awaited. Tasks belong to `owner`; `changed` is told of every pod that changes."""

    def __init__(
        self, records: Records, cgroups: Cgroups, owner: asyncio.TaskGroup, changed: Callable[[PodUid], None]
    ) -> None:
        self._records = records
        self._cgroups = cgroups
        self._owner = owner
        self._changed = changed
        self._expected: dict[ContainerId, _Expected] = {}

    def expect(
        self, id: ContainerId, pod: PodUid, cgroup: str, finish: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Awaits the end of `id` from now on: to be called before its start. `finish` runs after it is written down."""
        if id not in self._expected:
            done = asyncio.get_running_loop().create_future()
            self._expected[id] = _Expected(pod, cgroup, done, finish=finish)

    def watch(self, id: ContainerId, pid: int) -> None:
        """Holds on to the process of an expected container too."""
        expected = self._expected[id]
        if not expected.watched:
            expected.watched = True
            self._owner.create_task(self._watch(id, expected, pid), name=f"watch {id}")

    def note(self, id: ContainerId, code: int, at: datetime, reason: str = "") -> Exit | None:
        """The expected container `id` has ended; how it ended, by the first who says so. None where it is not ours."""
        expected = self._expected.get(id)
        if expected is None:
            return None
        if expected.noted is None:
            expected.noted = Exit(code, at, reason or self._reason(code, expected.cgroup))
            self._owner.create_task(self._write_down(id, expected, expected.noted), name=f"exit of {id}")
        return expected.noted

    def noted(self, id: ContainerId) -> Exit | None:
        """How `id` has ended, as far as is known."""
        expected = self._expected.get(id)
        return expected.noted if expected else None

    async def wait(self, id: ContainerId) -> Exit:
        """How the expected container `id` has ended, once it has. Cancelled where it is forgotten meanwhile."""
        return await asyncio.shield(self._expected[id].done)

    async def forget(self, id: ContainerId) -> None:
        """Awaits what is under way for `id`, and awaits its end no longer."""
        expected = self._expected.get(id)
        if expected is not None:
            if expected.noted is not None:
                await expected.finished.wait()
            self._expected.pop(id, None)
            expected.done.cancel()

    def _reason(self, code: int, cgroup: str) -> str:
        if code == 0:
            return "Completed"
        return "OOMKilled" if code == KILLED and self._cgroups.out_of_memory(cgroup) else "Error"

    async def _watch(self, id: ContainerId, expected: _Expected, pid: int) -> None:
        try:
            with Process(pid) as process:
                # Checked after it is held: the number cannot be given to another process any more.
                if self._cgroups.contains(expected.cgroup, pid):
                    await process.wait()
        except ProcessLookupError:
            pass
        while expected.noted is None and self._expected.get(id) is expected:
            try:
                code, at = await self._records.wait_task(id)
                self.note(id, code, at)
            except RuntimeUnavailable:
                await asyncio.sleep(_RETRY)
            except ContainerdError:
                # The task is gone with its shim, and nobody kept its exit.
                self.note(id, KILLED, labels.now(), UNKNOWN_REASON)

    async def _write_down(self, id: ContainerId, expected: _Expected, exit: Exit) -> None:
        try:
            await self._keep(id, exit)
            self._tell(id, expected, exit)
            if expected.finish is not None:
                await expected.finish()
        except (ContainerdError, OSError) as error:
            # Removing the container does it again.
            log.warning("container not finished", container=id, error=str(error))
            self._tell(id, expected, exit)
        finally:
            expected.finished.set()

    def _tell(self, id: ContainerId, expected: _Expected, exit: Exit) -> None:
        if not expected.done.done():
            expected.done.set_result(exit)
            log.info("container exited", container=id, code=exit.code, reason=exit.reason)
            self._changed(expected.pod)

    async def _keep(self, id: ContainerId, exit: Exit) -> None:
        while True:
            try:
                await self._records.set_labels(id, labels.exit_labels(exit))
            except NotFound:
                # Somebody has removed it by hand; the pod's next look at it will tell.
                pass
            except RuntimeUnavailable:
                await asyncio.sleep(_RETRY)
                continue
            return
