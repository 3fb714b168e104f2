"""The client of etcd's v3 API: typed calls over its own stubs (docs/decisions/0001-etcd-client.md).

Reads are retried, on the next member, until their deadline. Writes are sent once: after `Unavailable` or `Timeout`
nobody knows whether one happened, and the caller finds out by reading.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, TypeVar

import grpc.aio

from controlplane.store import operations, watching
from controlplane.store.api import etcd_pb2 as pb
from controlplane.store.api.kv_pb2 import KeyValue
from controlplane.store.endpoints import Compacted, Endpoints, Member, meaning
from controlplane.store.leases import Lease, Renewals
from controlplane.store.maintenance import Maintenance
from controlplane.store.watching import Batch
from podwire import errors
from podwire.backoff import Backoff
from podwire.client import Tls

Answer = TypeVar("Answer")

# etcd itself gives a request up after 5 s plus two election timeouts.
READ_TIMEOUT: Final = 5.0
WRITE_TIMEOUT: Final = 7.0
# One attempt of a read, so that a member that swallows requests is left while there is time for another.
_ATTEMPT_TIMEOUT: Final = 2.0


@dataclass(frozen=True, slots=True)
class Found:
    """What a range holds at `revision`; `more` says that the limit cut it."""

    items: Sequence[KeyValue]
    revision: int
    more: bool
    count: int


class Etcd:
    """`async with Etcd.connect(["http://127.0.0.1:2379"]) as etcd: ...`; one is enough for a process."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self.maintenance = Maintenance(endpoints)

    @classmethod
    def connect(cls, addresses: Sequence[str], *, tls: Tls | None = None) -> Self:
        """Returns at once; the first call connects."""
        return cls(Endpoints(addresses, tls))

    async def close(self) -> None:
        await self._endpoints.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def range(
        self,
        key: bytes,
        range_end: bytes = b"",
        *,
        revision: int = 0,
        limit: int = 0,
        keys_only: bool = False,
        serializable: bool = False,
        timeout: float = READ_TIMEOUT,
    ) -> Found:
        """The keys from `key` up to `range_end` (without one: `key` alone), linearizable unless said otherwise.

        `revision` asks for the state at a past one and raises `Compacted` where it is gone.
        """
        request = pb.RangeRequest(
            key=key,
            range_end=range_end,
            revision=revision,
            limit=limit,
            keys_only=keys_only,
            serializable=serializable,
        )
        answer = await self._read(lambda member, left: member.kv.Range(request, timeout=left), timeout)
        return Found(answer.kvs, answer.header.revision, answer.more, answer.count)

    async def get(self, key: bytes, *, timeout: float = READ_TIMEOUT) -> KeyValue | None:
        found = await self.range(key, timeout=timeout)
        return found.items[0] if found.items else None

    async def read_many(self, wanted: Sequence[bytes], *, timeout: float = READ_TIMEOUT) -> list[KeyValue | None]:
        """The state of up to 128 keys at one revision, linearizable."""
        request = pb.TxnRequest(success=[operations.read(key) for key in wanted])
        answer = await self._read(lambda member, left: member.kv.Txn(request, timeout=left), timeout)
        found = [response.response_range.kvs for response in answer.responses]
        return [kvs[0] if kvs else None for kvs in found]

    async def put(self, key: bytes, value: bytes, *, lease: int = 0, timeout: float = WRITE_TIMEOUT) -> int:
        """Writes one key; the revision of the write."""
        request = pb.PutRequest(key=key, value=value, lease=lease)
        answer = await self._write(lambda member: member.kv.Put(request, timeout=timeout))
        return answer.header.revision

    async def delete(self, key: bytes, range_end: bytes = b"", *, timeout: float = WRITE_TIMEOUT) -> int:
        """Deletes a key or a range; how many keys there were."""
        request = pb.DeleteRangeRequest(key=key, range_end=range_end)
        answer = await self._write(lambda member: member.kv.DeleteRange(request, timeout=timeout))
        return answer.deleted

    async def txn(
        self,
        compares: Sequence[pb.Compare],
        success: Sequence[pb.RequestOp],
        failure: Sequence[pb.RequestOp] = (),
        *,
        timeout: float = WRITE_TIMEOUT,
    ) -> pb.TxnResponse:
        """Does `success` if all of `compares` hold, else `failure`, in one revision. At most 128 of each."""
        request = pb.TxnRequest(compare=compares, success=success, failure=failure)
        return await self.send_txn(request, timeout=timeout)

    async def send_txn(self, request: pb.TxnRequest, *, timeout: float = WRITE_TIMEOUT) -> pb.TxnResponse:
        """As `txn`, of a request that is put together already."""
        return await self._write(lambda member: member.kv.Txn(request, timeout=timeout))

    def watch(self, key: bytes, range_end: bytes = b"", *, start_revision: int = 0) -> AsyncGenerator[Batch, None]:
        """Every change of the range from `start_revision` (0: from now) on, in batches of whole revisions.

        Lost connections are hidden. Raises `Compacted` where the position is older than etcd's history. Close it with
        `contextlib.aclosing`; a cancelled read ends it.
        """
        return watching.watch(self._endpoints, key, range_end, start_revision)

    async def grant(self, ttl: int, *, timeout: float = WRITE_TIMEOUT) -> Lease:
        """A new lease of `ttl` seconds."""
        clock = asyncio.get_running_loop().time
        sent = clock()
        request = pb.LeaseGrantRequest(TTL=ttl)
        answer = await self._write(lambda member: member.lease.LeaseGrant(request, timeout=timeout))
        lease = Lease(self._endpoints, answer.ID, answer.TTL, clock)
        lease.renewed(sent, answer.TTL)
        return lease

    async def adopt(self, lease_id: int, *, timeout: float = READ_TIMEOUT) -> Lease | None:
        """A lease that another process was granted, with the time that it has left, or None where it is gone."""
        clock = asyncio.get_running_loop().time
        sent = clock()
        request = pb.LeaseTimeToLiveRequest(ID=lease_id)
        answer = await self._read(lambda member, left: member.lease.LeaseTimeToLive(request, timeout=left), timeout)
        if answer.TTL <= 0:
            return None
        lease = Lease(self._endpoints, lease_id, answer.grantedTTL, clock)
        lease.renewed(sent, answer.TTL)
        return lease

    def renewals(self) -> Renewals:
        """Shared streams of renewals; their `run` needs a task."""
        return Renewals(self._endpoints, asyncio.get_running_loop().time)

    async def compact(self, revision: int, *, physical: bool = False, timeout: float = WRITE_TIMEOUT) -> None:
        """Gives the history before `revision` up; `Compacted` where that has happened already.

        `physical` waits until the space of it is free in the member that answers.
        """
        request = pb.CompactionRequest(revision=revision, physical=physical)
        await self._write(lambda member: member.kv.Compact(request, timeout=timeout))

    async def compacted_revision(self, key: bytes, *, timeout: float = READ_TIMEOUT) -> int:
        """The oldest revision whose history is there, 0 where all of it is; `key` is one that was written some time.

        etcd has no call for it, but tells it to a watch that begins too early.
        """
        try:
            async with asyncio.timeout(timeout), aclosing(self.watch(key, start_revision=1)) as batches:
                async for _ in batches:
                    break
        except Compacted as lost:
            return lost.compact_revision
        except TimeoutError:
            raise errors.Timeout("etcd did not answer in time") from None
        return 0

    async def _read(self, call: Callable[[Member, float], Awaitable[Answer]], timeout: float) -> Answer:
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout
        backoff = Backoff(0.02, 0.5)
        while True:
            member = self._endpoints.current
            try:
                left = max(deadline - clock(), 0.001)
                return await call(member, min(left, timeout / 2, _ATTEMPT_TIMEOUT))
            except grpc.aio.AioRpcError as error:
                wrong = meaning(error)
                if not isinstance(wrong, errors.Unavailable | errors.Timeout):
                    raise wrong from None
                self._endpoints.failed(member)
                delay = backoff.next()
                if clock() + delay >= deadline:
                    raise wrong from None
            await asyncio.sleep(delay)

    async def _write(self, call: Callable[[Member], Awaitable[Answer]]) -> Answer:
        member = self._endpoints.current
        try:
            return await call(member)
        except grpc.aio.AioRpcError as error:
            wrong = meaning(error)
            if isinstance(wrong, errors.Unavailable | errors.Timeout):
                self._endpoints.failed(member)
            raise wrong from None
