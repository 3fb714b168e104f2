"""The loop takes all of gRPC's bytes in one turn, and knows which reader is gRPC's."""

from __future__ import annotations

import socket
import subprocess
import sys
from array import array
from pathlib import Path

import pytest

from controlplane.event_loop import take_all

# In a process of its own, whose only loop it is: says how often gRPC's reader was run by way of the repair.
PROGRAM = """
import asyncio, sys
import grpc.aio
from controlplane import event_loop

runs = []
taken = event_loop.take_all
event_loop.take_all = lambda pair, count, handle: (runs.append(1), taken(pair, count, handle))

async def main():
    async with grpc.aio.insecure_channel(f"unix:{sys.argv[1]}") as channel:
        try:
            await channel.unary_unary("/none/None")(b"", timeout=5)
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE
    print(len(runs))

with asyncio.Runner(loop_factory=event_loop.Loop) as runner:
    runner.run(main())
"""


@pytest.mark.parametrize("told", [1, 2, 100])
def test_all_bytes_are_taken_for_one_run_of_the_reader(told: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.send(b"\0" * told)
        read: list[bytes] = []
        take_all(ours, array("i", [0]), lambda: read.append(ours.recv(1)))
        assert read == [b"\0"]
        theirs.send(b"\1")
        assert ours.recv(10) == b"\1"


def test_the_reader_of_this_release_of_grpc_is_known(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", PROGRAM, str(tmp_path / "s")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
