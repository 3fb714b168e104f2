"""One look after another at etcd: compact what is old, defragment what is worth it, clear what a full store leaves.

The leader of the role `controllers` does it. etcd cannot compare an election in these calls, so a leader that was
frozen and replaced may still make one: each of them is harmless when it comes twice or from two. What is compacted is
old by the clock of whoever compacts; a member that is defragmented already has nothing to give back; an alarm that was
cleared too early is raised again by the next write.

A full store is the exception to the rule of the leader: a lease is a write, so that nobody can be elected in it. While
there is no leader, whoever is there makes room.

Nothing is kept between looks that a successor would need: a process that is killed at any instruction is replaced by
one that looks at the same members and alarms. Everything here is asked for at intervals, because etcd has no events for
sizes and alarms.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn

import structlog

from controlplane.election import KEY_PREFIX
from controlplane.store import keys
from controlplane.store.api import etcd_pb2 as pb
from controlplane.store.etcd import Etcd
from controlplane.store.maintenance import MemberState
from controlplane.upkeep import plan
from controlplane.upkeep.history import History
from podwire import errors

log = structlog.get_logger(__name__)

# Whose leader does it.
ROLE: Final = "controllers"
# Seconds between looks: how long a full store waits for help. A look costs etcd a few small requests.
LOOK_SECONDS: Final = 10.0
# A member writes 60 to 200 MB a second when it is defragmented; the default quota is 2 GiB.
_DEFRAGMENT_TIMEOUT: Final = 120.0
# A physical compaction of what has gathered while nobody compacted.
_COMPACT_TIMEOUT: Final = 60.0
# A member that could not be defragmented (its disk is full, it is too slow) is not troubled again before this.
_TRY_AGAIN_SECONDS: Final = 600.0


@dataclass(slots=True)
class Observed:
    """What the last look found and what all looks have done, for metrics and for those who ask."""

    members: Sequence[MemberState] = ()
    alarms: Sequence[pb.AlarmMember] = ()
    compactions: int = 0
    compacted_revision: int = 0
    defragmentations: dict[int, int] = field(default_factory=dict)
    failed_looks: int = 0


class Upkeep:
    """`run` needs a task for as long as the process is a candidate: who is not elected learns how old what is."""

    def __init__(self, etcd: Etcd, candidate: str, clock: Callable[[], float], *, history: float) -> None:
        """`candidate` is the name under which this process stands for election; `history` is in seconds."""
        self._etcd = etcd
        self._candidate = candidate.encode()
        self._clock = clock
        self._history = History(history)
        self._compacted = 0
        self._tried: dict[int, float] = {}
        self._relief_tried: float | None = None
        self._freed = False
        self.observed = Observed()

    async def run(self) -> NoReturn:
        interval = min(LOOK_SECONDS, self._history.keep / 10)
        while True:
            try:
                await self.look()
            except errors.PodwireError as error:
                self.observed.failed_looks += 1
                log.warning("upkeep of etcd is put off", reason=str(error))
            await asyncio.sleep(interval)

    async def look(self) -> None:
        """Looks once, and does what has to be done now; raises errors of podwire.errors where etcd does not answer."""
        now = self._clock()
        self.observed.alarms = await self._etcd.maintenance.alarms()
        # Told before anything that etcd may refuse because of it.
        self._report_corruption()
        found = await self._etcd.range(keys.EPOCH)
        self._history.observe(found.items[0].value if found.items else b"", found.revision, now)
        leader = await self._etcd.get(f"{KEY_PREFIX}{ROLE}".encode())
        if leader is not None and leader.value != self._candidate:
            self.observed.members, self.observed.alarms = (), ()
            return
        revision = self._history.old_enough(now)
        if leader is not None and revision not in (0, self._compacted):
            await self._compact(revision)
            self._compacted = revision
        self.observed.members = await self._etcd.maintenance.members()
        full = [alarm for alarm in self.observed.alarms if alarm.alarm == pb.NOSPACE]
        if full:
            await self._relieve(full, found.revision)
        elif leader is not None:
            await self._defragment_one()

    async def _compact(self, revision: int, *, physical: bool = False) -> bool:
        """Whether there was anything to compact."""
        try:
            await self._etcd.compact(revision, physical=physical, timeout=_COMPACT_TIMEOUT)
        except errors.HistoryLost:
            # Somebody has compacted as much, or the store was restored to a state before it.
            return False
        self.observed.compactions += 1
        self.observed.compacted_revision = revision
        log.info("etcd's history compacted", revision=revision)
        return True

    async def _defragment_one(self) -> None:
        """One member a look, so that the others have caught up and its own figures are new before the next one."""
        for member in plan.turns(self.observed.members, plan.worth_it):
            tried = self._tried.get(member.id)
            if tried is None or self._clock() - tried >= _TRY_AGAIN_SECONDS:
                await self._defragment(member)
                return

    async def _defragment(self, member: MemberState) -> None:
        self._tried[member.id] = began = self._clock()
        await self._etcd.maintenance.defragment(member, timeout=_DEFRAGMENT_TIMEOUT)
        self.observed.defragmentations[member.id] = self.observed.defragmentations.get(member.id, 0) + 1
        log.info(
            "etcd member defragmented",
            member=member.name,
            free_bytes_before=member.free,
            took_ms=round(1000 * (self._clock() - began)),
        )

    async def _relieve(self, full: Sequence[pb.AlarmMember], revision: int) -> None:
        """Room in a store that takes no writes: without history, free pages given back, alarms cleared.

        History is worth less than writes here. Those who have kept up lose nothing by it, the others list again.
        """
        if await self._compact(revision, physical=True):
            self._freed = True
        members = self.observed.members = await self._etcd.maintenance.members()
        log.error(
            "etcd is full and takes no writes: delete what is not needed, or raise its quota",
            alarmed=[f"{alarm.memberID:x}" for alarm in full],
            bytes={member.name: member.status.dbSize for member in members if member.status is not None},
            missing=[member.name for member in members if member.status is None],
        )
        turns = plan.turns(members, plan.answers)
        if not turns or not plan.relief_due(self._clock(), tried_at=self._relief_tried, freed_since=self._freed):
            return
        self._relief_tried, self._freed = self._clock(), False
        for member in turns:
            await self._defragment(member)
        for alarm in full:
            await self._etcd.maintenance.disarm(alarm)
            log.info("etcd's alarm cleared", alarm="NOSPACE", member=f"{alarm.memberID:x}")

    def _report_corruption(self) -> None:
        """Which member is right is for a person to find out: this alarm stays. Every candidate tells of it."""
        for alarm in self.observed.alarms:
            if alarm.alarm == pb.CORRUPT:
                log.error(
                    "etcd says that a member's data is corrupt: replace it, or restore a backup",
                    member=f"{alarm.memberID:x}",
                )
