"""Leases with a deadline of their own.

The holder of a lease must stop acting no later than the server would give what it guards to another, whether or not
any answer comes: the deadline counts from the moment a renewal was sent, on this process' monotonic clock, which is
never later than the server's own count from the moment it received it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import grpc.aio
import structlog

from controlplane.store.api import etcd_pb2 as pb
from controlplane.store.endpoints import Endpoints, LeaseLost, meaning, reason_of
from podwire import errors
from podwire.attempt import attempt
from podwire.backoff import Backoff

log = structlog.get_logger(__name__)

# A renewal every third of the time to live: two may fail before the lease does.
_RENEWALS_A_LIFE: Final = 3
# The part of a life that is left for stopping: who notices at the deadline that it must stop has not stopped yet, and a
# busy machine can take a tenth of a second to run what it cancels.
_STOPPING: Final = 0.1
# Seconds for an answer on the shared stream before another member is asked: answered in milliseconds, and leases of 5 s
# leave time for two members.
_ANSWER_SECONDS: Final = 1.0
# A write to a stream, and the read of its answer, take some turns of the loop each, one after another: one stream on a
# loop whose turns take 3 ms renews a hundred leases a second. A thousand agents need 500.
_STREAMS: Final = 8
# Turns of the loop in which a busy process takes in what has come for it: microseconds each where it has nothing to do.
_CATCHING_UP: Final = 50


async def catch_up() -> None:
    """Before another is blamed for its silence: what it has said may be here, unread, because this process is busy."""
    for _ in range(_CATCHING_UP):
        await asyncio.sleep(0)


class Lease:
    """A lease of `ttl` seconds. `deadline` is when it may be gone, in the clock's seconds."""

    def __init__(self, endpoints: Endpoints, lease_id: int, ttl: int, clock: Callable[[], float]) -> None:
        self.id = lease_id
        self.ttl = ttl
        self.deadline = 0.0
        self._endpoints = endpoints
        self._clock = clock

    def renewed(self, sent: float, ttl: int) -> None:
        """The server answered a request sent at `sent` that the lease lives for `ttl` seconds."""
        if ttl <= 0:
            raise LeaseLost(f"the lease {self.id:x} has expired")
        self.deadline = max(self.deadline, sent + ttl)

    @property
    def remaining(self) -> float:
        """Seconds for which the lease is certain to be held; not positive when it may be gone."""
        return self.deadline - self._clock()

    async def keep(self) -> NoReturn:
        """Renews the lease until it is lost, and raises `LeaseLost` a tenth of a life before its deadline."""
        stopping = self.ttl * _STOPPING
        try:
            async with asyncio.timeout_at(self.deadline - stopping) as limit:
                while True:
                    await asyncio.sleep(self.ttl / _RENEWALS_A_LIFE)
                    await self.renew()
                    limit.reschedule(self.deadline - stopping)
        except TimeoutError:
            raise LeaseLost(f"the lease {self.id:x} could not be renewed in time") from None

    async def renew(self) -> None:
        """Renews the lease once; tries until an answer comes, so the caller sets the limit. Raises `LeaseLost`."""
        backoff = Backoff(0.02, 0.5)
        while True:
            member = self._endpoints.current
            sent = self._clock()
            call = member.lease.LeaseKeepAlive(timeout=self.ttl / _RENEWALS_A_LIFE)
            try:
                await call.write(pb.LeaseKeepAliveRequest(ID=self.id))
                response = await call.read()
                if isinstance(response, pb.LeaseKeepAliveResponse):
                    return self.renewed(sent, response.TTL)
            except grpc.aio.AioRpcError as error:
                log.debug(
                    "lease not renewed, trying again", lease=self.id, member=member.address, error=reason_of(error)
                )
            finally:
                call.cancel()
            self._endpoints.failed(member)
            await asyncio.sleep(backoff.next())

    async def revoke(self, *, timeout: float = 2.0) -> None:
        """Ends the lease and deletes its keys. One that is gone already, or that etcd cannot hear of, expires."""
        try:
            await self._endpoints.current.lease.LeaseRevoke(pb.LeaseRevokeRequest(ID=self.id), timeout=timeout)
        except grpc.aio.AioRpcError as error:
            log.debug("lease not revoked, it will expire", lease=self.id, error=str(meaning(error)))


class Renewals:
    """A few streams of renewals for thousands of leases. `run` owns the streams; `renew` is for any number of tasks."""

    def __init__(self, endpoints: Endpoints, clock: Callable[[], float]) -> None:
        self._streams = [_Stream(endpoints, clock) for _ in range(_STREAMS)]

    async def renew(self, lease: Lease) -> None:
        """Like `Lease.renew`, on a shared stream."""
        await self._streams[lease.id % _STREAMS].renew(lease)

    async def run(self) -> NoReturn:
        async with asyncio.TaskGroup() as owner:
            for number, stream in enumerate(self._streams):
                owner.create_task(stream.run(), name=f"renewals {number}")
        raise RuntimeError("the streams of renewals have ended")


@dataclass(frozen=True, slots=True)
class _Asked:
    sent: float
    answer: asyncio.Future[int]


class _Stream:
    """One stream of renewals."""

    def __init__(self, endpoints: Endpoints, clock: Callable[[], float]) -> None:
        self._endpoints = endpoints
        self._clock = clock
        self._wanted: asyncio.Queue[int] = asyncio.Queue()
        self._asked: dict[int, _Asked] = {}

    async def renew(self, lease: Lease) -> None:
        asked = self._asked.get(lease.id)
        if asked is None:
            asked = _Asked(self._clock(), asyncio.get_running_loop().create_future())
            self._asked[lease.id] = asked
            self._wanted.put_nowait(lease.id)
        # Shielded: another task may wait for the same answer.
        lease.renewed(asked.sent, await asyncio.shield(asked.answer))

    async def run(self) -> NoReturn:
        backoff = Backoff(0.02, 0.5)
        while True:
            member = self._endpoints.current
            call = member.lease.LeaseKeepAlive()
            try:
                await attempt(self._talk(call, backoff))
            except* (grpc.aio.AioRpcError, errors.Unavailable) as lost:
                log.debug(
                    "lease stream lost, opening it again", member=member.address, error=reason_of(lost.exceptions[0])
                )
            finally:
                call.cancel()
            self._endpoints.failed(member)
            await asyncio.sleep(backoff.next())

    async def _talk(self, call: Any, backoff: Backoff) -> None:
        # What was asked on a stream that broke is asked again.
        self._wanted = asyncio.Queue()
        for lease_id in self._asked:
            self._wanted.put_nowait(lease_id)
        async with asyncio.TaskGroup() as owner:
            owner.create_task(self._guard(), name="guard the stream of renewals")
            owner.create_task(self._ask(call), name="ask for renewals")
            owner.create_task(self._listen(call, backoff), name="hear of renewals")

    async def _guard(self) -> NoReturn:
        """Ends a stream that owes an answer for too long: its member is frozen, cut off, or without a leader."""
        opened = self._clock()
        while True:
            oldest = next(iter(self._asked.values()), None)
            due = _ANSWER_SECONDS + (max(oldest.sent, opened) if oldest is not None else self._clock())
            if due <= self._clock():
                await catch_up()
                if oldest is None or oldest.answer.done():
                    continue
                raise errors.Unavailable(f"etcd has not answered a renewal for {_ANSWER_SECONDS:g} s")
            await asyncio.sleep(due - self._clock())

    async def _ask(self, call: Any) -> NoReturn:
        while True:
            await call.write(pb.LeaseKeepAliveRequest(ID=await self._wanted.get()))

    async def _listen(self, call: Any, backoff: Backoff) -> NoReturn:
        while (response := await call.read()) is not grpc.aio.EOF:
            backoff.reset()
            asked = self._asked.pop(response.ID, None)
            if asked is not None:
                asked.answer.set_result(response.TTL)
        raise errors.Unavailable("etcd ended the stream of renewals")
