"""The bounded way between two tasks."""

from __future__ import annotations

import asyncio

import pytest

from controlplane.sessions.pipes import Pipe
from podwire import errors


async def test_a_full_pipe_holds_the_sender_up_until_the_receiver_takes() -> None:
    pipe: Pipe[int] = Pipe(2)
    await pipe.put(1)
    await pipe.put(2)
    third = asyncio.create_task(pipe.put(3))
    await asyncio.sleep(0)
    assert not third.done()
    assert [await pipe.get(), await pipe.get(), await pipe.get()] == [1, 2, 3]
    await third


async def test_what_was_sent_before_the_end_is_delivered_before_it() -> None:
    pipe: Pipe[int] = Pipe(2)
    await pipe.put(1)
    pipe.close(errors.NodeUnreachable("gone"))
    assert await pipe.get() == 1
    with pytest.raises(errors.NodeUnreachable):
        await pipe.get()


async def test_a_closed_pipe_ends_for_whoever_waits_at_either_end() -> None:
    empty: Pipe[int] = Pipe(1)
    receiving = asyncio.create_task(empty.get())
    full: Pipe[int] = Pipe(1)
    await full.put(1)
    sending = asyncio.create_task(full.put(2))
    await asyncio.sleep(0)
    empty.close()
    full.close()
    assert await receiving is None
    with pytest.raises(errors.Unavailable):
        await sending
