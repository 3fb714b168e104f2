"""Group commit: writes that come while others are on their way to etcd go together, in one transaction.

Each write is a transaction nested in the group's, with compares of its own, so that one that loses a race fails alone.
A key stands in a group at most once. What etcd refuses for the sake of one (a lease that is gone, too many bytes) is
sent again one by one.

Where etcd did not answer, nobody knows whether a group has happened: the keys are read, and a new object that is found
there has been made. Every other write may have happened, or may still, and its caller is told so.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn

import structlog

from controlplane.store import keys
from controlplane.store import operations as op
from controlplane.store.api import etcd_pb2 as pb
from controlplane.store.api.kv_pb2 import KeyValue
from controlplane.store.etcd import Etcd
from controlplane.store.gathering import gather
from podwire import errors

log = structlog.get_logger(__name__)

# etcd takes 128 operations at each level of a transaction, and 1.5 MiB in all.
_GROUP_WRITES: Final = 64
_GROUP_BYTES: Final = 1024 * 1024


@dataclass(slots=True, eq=False)
class Write:
    """One request's share of a transaction: `puts` and `deletes` happen if all of `compares` hold.

    The first put, or else the first delete, is the object that the write is about.
    """

    compares: Sequence[pb.Compare]
    puts: Mapping[bytes, bytes] = field(default_factory=dict)
    deletes: Sequence[bytes] = ()
    # Of the first put.
    lease: int = 0

    @property
    def size(self) -> int:
        return sum(map(len, self.puts.values())) + 200 * (len(self.compares) + len(self.puts) + len(self.deletes))

    def written(self) -> set[bytes]:
        return {*self.puts, *self.deletes}

    def compared(self) -> set[bytes]:
        return {compare.key for compare in self.compares}

    def write_into(self, request: pb.TxnRequest) -> None:
        """Into an empty one, in place: messages that are put into others are copied at each level."""
        request.compare.extend(self.compares)
        for key, value in self.puts.items():
            put = request.success.add().request_put
            put.key = key
            put.value = value
        if self.lease:
            request.success[0].request_put.lease = self.lease
        for key in self.deletes:
            request.success.add().request_delete_range.key = key
        # What was compared is read where it does not hold, so that the caller can tell what has changed.
        for compare in self.compares:
            if not compare.range_end:
                request.failure.add().request_range.key = compare.key

    def proven_by(self, found: KeyValue) -> bool:
        """Whether the state of its first key proves that the write has happened.

        Only that of a new object does, for its uid is no other's. An update or a deletion leaves what another one just
        like it leaves too: two clients that count one up from the same state must not both hear that they did.
        """
        if op.absent(self.first_key) not in self.compares:
            return False
        return found.value == self.puts.get(self.first_key)

    @property
    def first_key(self) -> bytes:
        return next(iter((*self.puts, *self.deletes, self.compares[0].key)))


@dataclass(frozen=True, slots=True)
class Outcome:
    """`found` is what the compared keys hold, where the write did not happen because of them."""

    succeeded: bool
    revision: int
    found: Mapping[bytes, KeyValue]


@dataclass(slots=True, eq=False)
class _Pending:
    write: Write
    outcome: asyncio.Future[Outcome]


class Committer:
    """`run` needs a task; `commit` is for any number of requests."""

    def __init__(self, etcd: Etcd) -> None:
        self._etcd = etcd
        self._pending: deque[_Pending] = deque()
        self._arrived = asyncio.Event()
        # Writes of the last group.
        self._last = 0

    async def commit(self, write: Write) -> Outcome:
        """Raises Unavailable or Timeout where it is not known whether the write has happened or will."""
        pending = _Pending(write, asyncio.get_running_loop().create_future())
        self._pending.append(pending)
        self._arrived.set()
        return await pending.outcome

    async def run(self) -> NoReturn:
        while True:
            # Who comes while nothing is on its way, after one that came so too, is alone, and is not made to wait.
            alone = not self._pending and self._last == 1
            if not self._pending:
                self._arrived.clear()
                await self._arrived.wait()
            if not alone:
                await gather(lambda: len(self._pending), _GROUP_WRITES)
            group = self._cut()
            self._last = len(group)
            # One at a time: etcd writes one group of its log to disk at a time too, and the next one grows meanwhile.
            await self._commit(group)

    def _cut(self) -> list[_Pending]:
        """The oldest writes that go together, in their order."""
        group: list[_Pending] = []
        written: set[bytes] = set()
        compared: set[bytes] = set()
        size = 0
        while self._pending and len(group) < _GROUP_WRITES:
            candidate = self._pending[0].write
            size += candidate.size
            writes, compares = candidate.written(), candidate.compared()
            # All compares see the state before the group: what one writes another neither writes nor looks at.
            clash = writes & written or writes & compared or compares & written
            if group and (clash or size > _GROUP_BYTES):
                break
            group.append(self._pending.popleft())
            written |= writes
            compared |= compares
        return group

    async def _commit(self, group: list[_Pending]) -> None:
        try:
            request = pb.TxnRequest()
            if len(group) == 1:
                group[0].write.write_into(request)
                answer = await self._etcd.send_txn(request)
                answers = [answer]
            else:
                for pending in group:
                    # Its compares decide only about its own operations.
                    pending.write.write_into(request.success.add().request_txn)
                request.failure.extend(_counted(group))
                answer = await self._etcd.send_txn(request)
                answers = [response.response_txn for response in answer.responses]
        except (errors.Unavailable, errors.Timeout) as error:
            await self._find_out(group, error)
        except errors.PodwireError as error:
            if len(group) == 1:
                _fail(group[0], error)
                return
            for pending in group:
                await self._commit([pending])
        else:
            for pending, own in zip(group, answers, strict=True):
                _answer(pending, own, answer.header.revision)

    async def _find_out(self, group: list[_Pending], error: errors.PodwireError) -> None:
        try:
            found = await self._etcd.read_many([pending.write.first_key for pending in group])
        except errors.PodwireError as still:
            log.warning("the fate of writes is unknown", writes=len(group), reason=str(still))
            for pending in group:
                _fail(pending, error)
            return
        for pending, kv in zip(group, found, strict=True):
            if kv is not None and pending.write.proven_by(kv):
                _settle(pending, Outcome(True, kv.mod_revision, {}))
            else:
                _fail(pending, type(error)(f"{error.message}; the write may have happened: read to find out"))


def _counted(group: Sequence[_Pending]) -> list[pb.RequestOp]:
    """What makes etcd hold a group that puts something against its quota: a put on the branch that is never taken.

    etcd counts the puts of a transaction's own branches and not those nested in them (3.4.23: 84 MiB went into a quota
    of 16 MiB), and lets what counts nothing pass when it is full.
    """
    return [op.put(keys.CLOCK, b"")] if any(pending.write.puts for pending in group) else []


def _answer(pending: _Pending, answer: pb.TxnResponse, revision: int) -> None:
    found: dict[bytes, KeyValue] = {}
    if not answer.succeeded:
        for response in answer.responses:
            for kv in response.response_range.kvs:
                found[kv.key] = kv
    _settle(pending, Outcome(answer.succeeded, revision, found))


def _settle(pending: _Pending, outcome: Outcome) -> None:
    if not pending.outcome.done():
        pending.outcome.set_result(outcome)


def _fail(pending: _Pending, error: errors.PodwireError) -> None:
    if not pending.outcome.done():
        pending.outcome.set_exception(error)
