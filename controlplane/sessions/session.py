"""One agent's session: heartbeats keep the node's lease alive, statuses are stored, requests for streams go out.

The node counts as alive exactly while its lease in etcd lives, and a NodeSession object hangs on that lease. A session
may end and another begin, here or on another replica, with the same lease: nobody notices. Only when no heartbeat came
for the lease's time to live is the object gone. Every session writes the object anew when it begins: its revision tells
sessions apart, and a replica that was frozen or cut off writes no status over that of a newer session.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final, NoReturn

import structlog

from controlplane.sessions.broker import Broker
from controlplane.sessions.statuses import StatusWriter
from controlplane.store.cache import Cache
from controlplane.store.leases import Lease, Renewals, catch_up
from controlplane.store.selection import Selection
from podwire import errors, kinds, v1

log = structlog.get_logger(__name__)

# Seconds before its lease ends that an agent needs to begin a session with another replica.
_MOVING_SECONDS: Final = 1.5
# And how long etcd is waited for at least: where heartbeats are late since this replica is busy, etcd is not to blame,
# and agents that are sent away would only make it busier.
_RENEWAL_SECONDS: Final = 1.5
# Messages that an agent may leave unread. It reads as it goes: what it is sent are answers to what it says, and
# requests for streams.
_MOST_UNREAD: Final = 1_024


class Session:
    def __init__(
        self,
        hello: v1.Hello,
        lease: Lease,
        revision: int,
        *,
        cache: Cache,
        renewals: Renewals,
        statuses: StatusWriter,
        broker: Broker,
        silence: float,
    ) -> None:
        self.node_name = hello.node_name
        self._lease = lease
        # Of the NodeSession as this session has written it.
        self._revision = revision
        self._cache = cache
        self._renewals = renewals
        self._statuses = statuses
        self._broker = broker
        self._silence = silence
        self._outgoing: asyncio.Queue[v1.ControlMessage] = asyncio.Queue(_MOST_UNREAD)
        self._heard_at = asyncio.get_running_loop().time()
        self._renewal_due = asyncio.Event()
        # The last status of each pod that is not stored yet, by uid, and the batches that wait for their answer.
        self._updates: dict[str, v1.PodStatusUpdate] = {}
        self._batches: list[v1.StatusBatch] = []
        self._arrived = asyncio.Event()
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def send(self, message: v1.ControlMessage) -> None:
        """Raises Unavailable where too much waits for the agent already: the session ends with its next heartbeat."""
        try:
            self._outgoing.put_nowait(message)
        except asyncio.QueueFull:
            raise errors.Unavailable(
                f"the agent of the node {self.node_name} does not read: {_MOST_UNREAD} messages wait for it"
            ) from None

    def end(self, error: errors.PodwireError) -> None:
        """Ends the session from outside."""
        if not self._ended.done():
            self._ended.set_exception(error)

    async def run(self, incoming: AsyncIterator[v1.AgentMessage], write: Any) -> None:
        """Until the agent ends its stream; raises whatever else ended the session, as one PodwireError."""
        try:
            async with asyncio.TaskGroup() as owner:
                tasks = [
                    owner.create_task(work, name=f"session {self.node_name}: {name}")
                    for name, work in {
                        "speak": self._speak(write),
                        "notice silence": self._notice_silence(),
                        "renew": self._renew(),
                        "store": self._store(),
                        "guard": self._guard(),
                        "end": self._wait_ended(),
                    }.items()
                ]
                await self._listen(incoming)
                for task in tasks:
                    task.cancel()
        except BaseExceptionGroup as group:
            known, unknown = group.split(errors.PodwireError)
            if unknown is not None or known is None:
                raise
            raise first_of(known) from None

    async def _wait_ended(self) -> None:
        await self._ended

    async def _listen(self, incoming: AsyncIterator[v1.AgentMessage]) -> None:
        loop, lease = asyncio.get_running_loop(), self._lease
        async for message in incoming:
            self._heard_at = loop.time()
            if lease.remaining < lease.ttl * 2 / 3:
                self._renewal_due.set()
            match message.WhichOneof("message"):
                case "heartbeat":
                    self.send(v1.ControlMessage(heartbeat=message.heartbeat))
                case "statuses":
                    self._updates.update({update.uid: update for update in message.statuses.updates})
                    self._batches.append(message.statuses)
                    self._arrived.set()
                case "stream_failed":
                    self._broker.fail(message.stream_failed)
                case _:
                    raise errors.Invalid("a session begins with one hello, and has no message of this kind after it")

    async def _notice_silence(self) -> NoReturn:
        """Looks as often as silence would last: a timer for each message is too much for a thousand agents."""
        loop = asyncio.get_running_loop()
        while True:
            left = self._heard_at + self._silence - loop.time()
            if left <= 0:
                raise errors.Unavailable(f"no heartbeat came for {self._silence:g} s")
            await asyncio.sleep(left)

    async def _speak(self, write: Any) -> NoReturn:
        while True:
            await write(await self._outgoing.get())

    async def _renew(self) -> NoReturn:
        """Renews the lease when heartbeats come, at most every third of its life.

        A replica that cannot do so in time lets the agent go while there is time for another to do it.
        """
        while True:
            await self._renewal_due.wait()
            renewal = asyncio.ensure_future(self._renewals.renew(self._lease))
            try:
                patience = max(_RENEWAL_SECONDS, self._lease.remaining - _MOVING_SECONDS)
                await asyncio.wait([renewal], timeout=patience)
                if not renewal.done():
                    await catch_up()
                if not renewal.done():
                    raise errors.Unavailable("etcd does not answer this replica: go on with another one")
                renewal.result()
            finally:
                renewal.cancel()
            self._renewal_due.clear()

    async def _store(self) -> NoReturn:
        """Stores what has come: while a write is on its way the last status of each pod replaces those before it."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            updates, self._updates = self._updates, {}
            batches, self._batches = self._batches, []
            written = await self._statuses.write(self.node_name, list(updates.values()), self._revision)
            results = {result.uid: result for result in written}
            for batch in batches:
                own = [results[uid] for uid in dict.fromkeys(update.uid for update in batch.updates)]
                self.send(v1.ControlMessage(statuses=v1.StatusAck(sequence=batch.sequence, results=own)))

    async def _guard(self) -> NoReturn:
        """Ends the session when its NodeSession is gone, or was written by another session, here or elsewhere."""
        sessions = self._cache.of(kinds.NODE_SESSION)
        selection = Selection.parse(kinds.NODE_SESSION, "", "", f"metadata.name={self.node_name}")
        watcher = sessions.watch(selection, self._cache.revision)
        try:
            while True:
                entry = sessions.entries.get(self.node_name)
                if entry is None:
                    raise errors.Unavailable(f"the lease of the node {self.node_name} has expired: begin a new session")
                if entry.revision != self._revision:
                    raise errors.PreconditionFailed(f"a newer session of the node {self.node_name} has begun")
                await watcher.turn()
                watcher.take()
        finally:
            watcher.close()


def first_of(group: BaseException) -> BaseException:
    """The first error in a group, and in the groups in it."""
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
