"""`podctl exec`: a command in a container, with this terminal as its own where -t asks for it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, nullcontext
from typing import Final

from podctl.session import Session
from podctl.workloads import choose_container, find_pod
from podwire import errors, v1
from podwire.client import ExecSession

_BLOCK: Final = 1 << 16


async def execute(
    session: Session, target: str, command: Sequence[str], *, container: str, stdin: bool, terminal: bool
) -> int:
    """Returns the command's exit status."""
    if terminal and not (stdin and sys.stdin.isatty()):
        print("Unable to use a TTY: the input is not a terminal, or -i is missing", file=sys.stderr)
        terminal = False
    pod = await find_pod(session, target)
    start = v1.ExecStart(
        namespace=pod.metadata.namespace,
        name=pod.metadata.name,
        container=choose_container(pod, container),
        command=command,
        stdin=stdin,
        tty=terminal,
    )
    if terminal:
        start.size.rows, start.size.columns = _size()
    async with session.client.pods.exec(start) as running:
        status = await _attend(running, stdin=stdin, terminal=terminal)
    if status:
        print(f"command terminated with exit code {status}", file=sys.stderr)
    return status


async def _attend(running: ExecSession, *, stdin: bool, terminal: bool) -> int:
    """Joins the command to this process' stdin and output until it ends."""
    # gRPC takes one write at a time.
    writing = asyncio.Lock()
    resized = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        with _raw_terminal(resized) if terminal else nullcontext():
            sizes = group.create_task(_send_sizes(running, writing, resized), name="terminal size")
            if stdin:
                _forward_stdin(running, writing)
            async for stream, data in running:
                output = sys.stdout.buffer if stream == "stdout" else sys.stderr.buffer
                output.write(data)
                output.flush()
            sizes.cancel()
    return running.exit_code


def _size() -> tuple[int, int]:
    size = os.get_terminal_size(sys.stdin.fileno())
    return size.lines, size.columns


@contextmanager
def _raw_terminal(resized: asyncio.Event) -> Iterator[None]:
    """This terminal hands every key to the command; `resized` is set when its size changes."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    loop = asyncio.get_running_loop()
    # Not the default, TCSAFLUSH: it would throw away what was typed ahead.
    tty.setraw(descriptor, termios.TCSADRAIN)
    loop.add_signal_handler(signal.SIGWINCH, resized.set)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


async def _send_sizes(running: ExecSession, writing: asyncio.Lock, resized: asyncio.Event) -> None:
    while True:
        await resized.wait()
        resized.clear()
        async with writing:
            try:
                await running.resize(*_size())
            except errors.PodwireError:
                # The stream has ended, and who reads it knows why.
                return


def _forward_stdin(running: ExecSession, writing: asyncio.Lock) -> None:
    """Starts a thread that sends what is read from stdin, a terminal, pipe or file, one block at a time.

    A read of a terminal cannot be interrupted, so nobody waits for the thread: it ends with the process.
    """
    loop = asyncio.get_running_loop()

    async def send(data: bytes) -> None:
        async with writing:
            await (running.write(data) if data else running.close_stdin())

    def forward() -> None:
        try:
            more = True
            while more:
                data = os.read(sys.stdin.fileno(), _BLOCK)
                asyncio.run_coroutine_threadsafe(send(data), loop).result()
                more = bool(data)
        except (errors.PodwireError, RuntimeError, CancelledError):
            # The command has ended before its input did.
            return

    threading.Thread(target=forward, name="stdin", daemon=True).start()
