"""Which writes go to etcd together. That they happen is shown on a real one, in the integration tests."""

from __future__ import annotations

import asyncio
from typing import Any

from controlplane.store import operations as op
from controlplane.store.api import etcd_pb2 as pb
from controlplane.store.commits import Committer, Write


class Transactions:
    """Stands for etcd: keeps how many writes each transaction had, and answers when it may."""

    def __init__(self) -> None:
        self.writes: list[int] = []
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def send_txn(self, request: pb.TxnRequest) -> Any:
        nested = [operation for operation in request.success if operation.HasField("request_txn")]
        self.writes.append(max(1, len(nested)))
        self.asked.set()
        await self.may_answer.wait()
        answer = pb.TxnResponse(succeeded=True)
        for _ in nested:
            answer.responses.add().response_txn.succeeded = True
        return answer


async def committed_after(turns: int, committer: Committer, number: int) -> bool:
    for _ in range(turns):
        await asyncio.sleep(0)
    key = f"/podwire/pods/default/{number}".encode()
    return (await committer.commit(Write([op.absent(key)], {key: b"x"}))).succeeded


async def test_writes_that_come_a_few_turns_of_the_loop_apart_share_a_transaction() -> None:
    etcd: Any = Transactions()
    committer = Committer(etcd)
    running = asyncio.create_task(committer.run())
    async with asyncio.timeout(20):
        assert all(await asyncio.gather(*(committed_after(number, committer, number) for number in range(5))))
    assert etcd.writes == [5]
    running.cancel()


async def test_writes_gather_while_a_transaction_is_on_its_way() -> None:
    etcd: Any = Transactions()
    etcd.may_answer.clear()
    committer = Committer(etcd)
    running = asyncio.create_task(committer.run())
    async with asyncio.timeout(20):
        first = asyncio.create_task(committed_after(0, committer, 100))
        await etcd.asked.wait()
        others = [asyncio.create_task(committed_after(30 * number, committer, number)) for number in range(3)]
        for _ in range(100):
            await asyncio.sleep(0)
        assert etcd.writes == [1]
        etcd.may_answer.set()
        assert all(await asyncio.gather(first, *others))
    assert etcd.writes == [1, 3]
    running.cancel()


async def test_a_write_that_comes_alone_as_the_one_before_it_did_is_not_made_to_wait_for_others() -> None:
    etcd: Any = Transactions()
    committer = Committer(etcd)
    running = asyncio.create_task(committer.run())
    async with asyncio.timeout(20):
        assert await committed_after(0, committer, 0)
        etcd.asked.clear()
        second = asyncio.create_task(committed_after(0, committer, 1))
        for _ in range(3):
            await asyncio.sleep(0)
        assert etcd.asked.is_set()
        assert await second
    running.cancel()
