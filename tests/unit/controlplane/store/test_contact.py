"""When a replica believes that it is cut off, and what becomes of those who listen."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from controlplane.store import contact
from controlplane.store.contact import Contact
from podwire import errors


class Etcd:
    """Proofs that succeed or fail as the test says; each waits until it is let go."""

    def __init__(self) -> None:
        self.error: errors.PodwireError | None = None
        self.proofs = asyncio.Semaphore(0)
        self.ended: list[errors.PodwireError] = []
        self.contact = Contact(self.prove, self.ended.append)

    async def prove(self) -> None:
        await self.proofs.acquire()
        if self.error is not None:
            raise self.error

    async def let_prove(self, times: int = 1) -> None:
        """So many proofs come to their end, and what follows from them has happened."""
        for _ in range(times):
            self.proofs.release()
            while not self.proofs.locked():  # noqa: ASYNC110 - the loop's turns are what is waited for
                await asyncio.sleep(0)
            await asyncio.sleep(0)


@pytest.fixture
async def etcd(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Etcd]:
    monkeypatch.setattr(contact, "_EVERY", 0.0)
    etcd = Etcd()
    running = asyncio.create_task(etcd.contact.run())
    yield etcd
    running.cancel()
    await asyncio.wait([running])


async def test_while_etcd_answers_nobody_is_ended_and_nobody_waits(etcd: Etcd) -> None:
    await etcd.let_prove(3)
    await etcd.contact.wait()
    assert etcd.ended == []


async def test_watches_end_once_for_each_time_that_contact_is_lost(etcd: Etcd) -> None:
    etcd.error = errors.Unavailable("cut off")
    await etcd.let_prove(3)
    assert etcd.ended == [etcd.error]
    etcd.error = None
    await etcd.let_prove()
    etcd.error = errors.Unavailable("again")
    await etcd.let_prove(2)
    assert [error.message for error in etcd.ended] == ["cut off", "again"]


async def test_a_full_store_is_still_heard_of(etcd: Etcd) -> None:
    etcd.error = errors.StoreFull("full")
    await etcd.let_prove(2)
    assert etcd.ended == []


async def test_who_comes_while_contact_is_lost_waits_for_the_next_proof(etcd: Etcd) -> None:
    etcd.error = errors.Unavailable("cut off")
    await etcd.let_prove()
    refused = asyncio.create_task(etcd.contact.wait())
    await etcd.let_prove(2)
    with pytest.raises(errors.Unavailable):
        await asyncio.wait_for(refused, 5)
    taken = asyncio.create_task(etcd.contact.wait())
    etcd.error = None
    await etcd.let_prove(2)
    await asyncio.wait_for(taken, 5)
