"""What is there of pods: records and tasks of containerd, put together; and their ends awaited from then on.

A record says what was meant and, once it is over, how it ended; a task says what runs. An exit that only a task knows
(nobody was there when it happened) is written down when it is seen.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence

from nodeagent import labels
from nodeagent.containerd.client import NotFound
from nodeagent.containerd.events import moment
from nodeagent.containerd.records import Record, Records, Task
from nodeagent.containers.exits import KILLED, UNKNOWN_REASON, Exits
from nodeagent.containers.lifecycle import Containers
from nodeagent.model import (
    ContainerId,
    Exit,
    ObservedContainer,
    ObservedPod,
    ObservedSandbox,
    Phase,
    PodUid,
    Role,
)
from nodeagent.register import Register
from nodeagent.sandboxes.lifecycle import Sandboxes


class Observer:
    def __init__(
        self, records: Records, register: Register, exits: Exits, sandboxes: Sandboxes, containers: Containers
    ) -> None:
        self._records = records
        self._register = register
        self._exits = exits
        self._sandboxes = sandboxes
        self._containers = containers

    async def records(self, uid: PodUid | None = None) -> Sequence[Record]:
        """The records of a pod, or of all of them."""
        return await self._records.list(labels.selector(uid))

    async def pods(self) -> dict[PodUid, ObservedPod]:
        """Every pod that containerd has anything of. A call to every shim: for starts, not for hot paths."""
        records = await self.records()
        tasks = await self._records.tasks()
        by_pod: dict[PodUid, list[Record]] = defaultdict(list)
        for record in records:
            by_pod[PodUid(record.labels[labels.POD_UID])].append(record)
        observed = {uid: await self._pod(uid, found, tasks) for uid, found in by_pod.items()}
        self._register.saw_all()
        return observed

    async def pod(self, uid: PodUid) -> ObservedPod:
        """What containerd has of one pod."""
        records = await self.records(uid)
        # An exit that is written down is all there is to know.
        asked = [record.id for record in records if labels.EXIT_CODE not in record.labels]
        tasks = await asyncio.gather(*(self._records.task(id) for id in asked))
        return await self._pod(uid, records, {id: task for id, task in zip(asked, tasks, strict=True) if task})

    async def _pod(self, uid: PodUid, records: Sequence[Record], tasks: Mapping[str, Task]) -> ObservedPod:
        self._register.saw(uid, records)
        sandboxes: list[ObservedSandbox] = []
        containers: list[ObservedContainer] = []
        namespace = name = ""
        for record in sorted(records, key=lambda record: moment(record.created_at)):
            namespace, name = record.labels[labels.POD_NAMESPACE], record.labels[labels.POD_NAME]
            task = tasks.get(record.id)
            if record.labels[labels.ROLE] == Role.SANDBOX:
                phase, pid, _ = await self._state(record, task)
                if phase is Phase.RUNNING and labels.STARTED_AT not in record.labels:
                    # Its making was cut short: nothing says which addresses it has.
                    phase = Phase.CREATED
                created_at = moment(record.created_at)
                sandboxes.append(
                    labels.observed_sandbox(record.id, record.labels, phase=phase, created_at=created_at, pid=pid)
                )
            else:
                phase, pid, exit = await self._state(record, task)
                containers.append(observed_container(record, phase=phase, pid=pid, exit=exit))
        return ObservedPod(uid, namespace, name, tuple(sandboxes), tuple(containers))

    async def _state(self, record: Record, task: Task | None) -> tuple[Phase, int, Exit | None]:
        """The phase, the pid while it runs, and how it ended."""
        id = ContainerId(record.id)
        if (exit := labels.exit_of(record.labels)) is not None:
            return Phase.EXITED, 0, exit
        if task is None:
            return await self._state_without_task(record)
        if task.created:
            return Phase.CREATED, task.pid, None
        self._expect(record)
        if task.stopped:
            return Phase.EXITED, 0, self._exits.note(id, task.code, task.ended_at)
        self._exits.watch(id, task.pid)
        return Phase.RUNNING, task.pid, None

    async def _state_without_task(self, record: Record) -> tuple[Phase, int, Exit | None]:
        if labels.STARTED_AT not in record.labels:
            return Phase.CREATED, 0, None
        # Its task may have been deleted after the record was read, and its exit is then written down by now.
        try:
            record = await self._records.get(record.id)
        except NotFound:
            return Phase.EXITED, 0, Exit(KILLED, labels.now(), UNKNOWN_REASON)
        if (exit := labels.exit_of(record.labels)) is None:
            self._expect(record)
            exit = self._exits.note(ContainerId(record.id), KILLED, labels.now(), UNKNOWN_REASON)
        return Phase.EXITED, 0, exit

    def _expect(self, record: Record) -> None:
        id, uid = ContainerId(record.id), PodUid(record.labels[labels.POD_UID])
        whose = self._sandboxes if record.labels[labels.ROLE] == Role.SANDBOX else self._containers
        whose.expect(id, uid)


def observed_container(record: Record, *, phase: Phase, pid: int, exit: Exit | None) -> ObservedContainer:
    """The container that `record` remembers, in the state given."""
    created_at = moment(record.created_at)
    return labels.observed_container(record.id, record.labels, phase=phase, created_at=created_at, pid=pid, exit=exit)
