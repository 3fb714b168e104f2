"""A run: clients that read and write, while etcd's leader is killed and replicas are cut off.

Faults follow the clients' progress, not the clock: on a slow machine they come as often in the history as on a fast
one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Final

from tests.linearizability.clients import Recording, Worker
from tests.linearizability.cluster import REPLICAS, Cluster, running_cluster

CLIENTS: Final = 8


@dataclass
class Faults:
    """Kills etcd's leader and cuts replicas off, in turn, as fast as the clients get on in between."""

    cluster: Cluster
    recording: Recording
    counts: Counter[str] = field(default_factory=Counter)

    async def run(self, *, kills: int, cuts: int, pause: int) -> None:
        """That many of each, with `pause` operations between two."""
        # What is sent may be lost, what is answered, or both.
        ways = cycle([("INPUT", "OUTPUT"), ("INPUT",), ("OUTPUT",)])
        for number in range(max(kills, cuts)):
            if number < kills:
                await self._kill_the_leader(pause)
            if number < cuts:
                await self._cut_off(number % REPLICAS, next(ways), pause)

    async def _kill_the_leader(self, pause: int) -> None:
        await self.recording.wait_more(pause)
        leader = await self.cluster.etcd.leader()
        await leader.kill()
        self.counts["kills"] += 1
        await self.cluster.etcd.leader()
        # The two that are left carry on for a while.
        await self.recording.wait_more(pause // 2)
        await self.cluster.etcd.restart(leader)

    async def _cut_off(self, number: int, chains: tuple[str, ...], pause: int) -> None:
        await self.recording.wait_more(pause)
        replica = self.cluster.replicas[number]
        await replica.cut(*chains)
        try:
            # Long enough to hurt: a connection survives what is shorter than its retransmissions.
            await self.recording.wait_unanswered(_clients_of(number))
        finally:
            await replica.mend()
        self.counts["cuts"] += 1


def _clients_of(replica: int) -> list[int]:
    return [client for client in range(CLIENTS) if client % REPLICAS == replica]


async def recorded_run(
    operations: int, seed: str, logs: Path, *, kills: int, cuts: int, pause: int
) -> tuple[Recording, Faults]:
    """What `CLIENTS` clients of two replicas did while the faults went on; it ends once both are done."""
    async with AsyncExitStack() as undo:
        cluster = await undo.enter_async_context(running_cluster(logs))
        clients = [
            await undo.enter_async_context(cluster.replicas[number % REPLICAS].connect()) for number in range(CLIENTS)
        ]
        recording = Recording()
        faults = Faults(cluster, recording)
        workers = [Worker(number, client, recording, seed) for number, client in enumerate(clients)]
        async with asyncio.TaskGroup() as owner:
            faulting = owner.create_task(faults.run(kills=kills, cuts=cuts, pause=pause), name="faults")
            for number, worker in enumerate(workers):
                owner.create_task(worker.run(faulting.done, operations), name=f"client {number}")
    return recording, faults
