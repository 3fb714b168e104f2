"""One event loop in a thread of its own, for callers that have none: the asyncio client runs there, they wait here."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import math
import os
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from typing import Any, Final, Generic, TypeVar

import uvloop

R = TypeVar("R")
T = TypeVar("T")

# Seconds.
_SIGNALS_WITHIN: Final = 1.0


class Closed(RuntimeError):
    """The client was closed, before this call or while it was under way."""


class Running(Generic[R]):
    """Something that runs in the loop; `outcome` is for other threads to wait for."""

    def __init__(self, loop: asyncio.AbstractEventLoop, make: Callable[[], Awaitable[R]]) -> None:
        self.outcome: concurrent.futures.Future[R] = concurrent.futures.Future()
        # The loop was asked, or was about to be.
        self.asked = False
        self._loop = loop
        self._make = make
        self._task: asyncio.Task[R] | None = None

    def ask(self) -> None:
        self.asked = True
        self._loop.call_soon_threadsafe(self._begin)

    def cancel(self) -> None:
        """Asks it to end, from any thread; `outcome` says when it has."""
        self._loop.call_soon_threadsafe(self._cancel)

    def result(self) -> R:
        """Waits for the outcome."""
        wait_for_any((self.outcome,))
        return self.outcome.result()

    def _begin(self) -> None:
        if not self.outcome.done():
            self._task = self._loop.create_task(self._run())
            self._task.add_done_callback(self._end)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
        elif not self.outcome.done():
            self.outcome.set_exception(Closed("this call was given up before it began"))

    async def _run(self) -> R:
        return await self._make()

    def _end(self, task: asyncio.Task[R]) -> None:
        if task.cancelled():
            self.outcome.set_exception(Closed("the client was closed while this call was under way"))
        elif error := task.exception():
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(task.result())


def wait_for_any(outcomes: Sequence[concurrent.futures.Future[Any]], timeout: float | None = None) -> None:
    """Until one of them is there, or `timeout` seconds have passed; what a signal's handler raises comes soon.

    Python runs handlers in the main thread, between its own steps: a signal that comes just before this thread begins
    to wait, or to another thread, does not wake it. So it looks up every second.
    """
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    while not any(outcome.done() for outcome in outcomes) and (left := deadline - time.monotonic()) > 0:
        concurrent.futures.wait(outcomes, min(left, _SIGNALS_WITHIN), concurrent.futures.FIRST_COMPLETED)


class LoopThread:
    """Runs coroutines for any number of threads until `close`, the end of the program, or its last reference goes."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._loop = uvloop.new_event_loop()
        self._at_end: list[Callable[[], Awaitable[None]]] = []
        # A daemon, because the interpreter waits for other threads before it tells anybody that it ends.
        self._thread = threading.Thread(
            target=_serve, args=(self._loop, self._at_end), name="podwire-client", daemon=True
        )
        self._thread.start()
        self._stop = weakref.finalize(self, _stop, self._loop, self._thread, self._process)
        # Nothing is begun once the loop was told to stop: nobody would end it.
        self._lock = threading.Lock()

    def at_end(self, clean_up: Callable[[], Awaitable[None]]) -> None:
        """Runs `clean_up` in the loop as its last."""
        self._at_end.append(clean_up)

    def start(self, make: Callable[[], Awaitable[R]]) -> Running[R]:
        """Runs what `make` gives in the loop, where it is called too."""
        running = Running(self._loop, make)
        self._start(running)
        return running

    def _start(self, running: Running[R]) -> None:
        if os.getpid() != self._process:
            raise RuntimeError(
                f"this client belongs to process {self._process}, which was forked: its threads and connections did "
                "not come along. Make a client after the fork (multiprocessing: use the start method spawn)"
            )
        if threading.current_thread() is self._thread:
            raise RuntimeError("this thread runs the client's loop and cannot wait for it")
        with self._lock:
            if not self._stop.alive:
                raise Closed("the client is closed")
            running.ask()

    def run(self, make: Callable[[], Awaitable[R]]) -> R:
        """The result of what `make` gives. Ctrl-C, or whatever ends the waiting, ends it there too."""
        running = Running(self._loop, make)
        try:
            self._start(running)
            return running.result()
        except BaseException:
            if running.asked and not running.outcome.done():
                running.cancel()
                with contextlib.suppress(Exception):
                    running.result()
            raise

    def iterate(self, make: Callable[[], AsyncGenerator[T, None]]) -> Generator[T, None, None]:
        """The items of the asynchronous generator that `make` gives; leaving the iteration ends that one too."""
        items = make()
        try:
            while True:
                try:
                    item = self.run(items.__anext__)
                except StopAsyncIteration:
                    return
                yield item
        finally:
            # A generator may be collected anywhere, in the loop's own thread too: the loop then closes it by itself, as
            # it does when it ends.
            if threading.current_thread() is not self._thread and os.getpid() == self._process:
                try:
                    self.run(items.aclose)
                except Closed:
                    pass

    def close(self) -> None:
        """Cancels what is under way, and ends the thread. A second time, or in a forked child, it does nothing."""
        if os.getpid() != self._process:
            return
        if threading.current_thread() is self._thread:
            raise RuntimeError("this thread runs the client's loop and cannot wait for its end")
        with self._lock:
            self._stop()


def _serve(loop: asyncio.AbstractEventLoop, at_end: list[Callable[[], Awaitable[None]]]) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        loop.run_until_complete(_clean_up(at_end))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


async def _clean_up(at_end: list[Callable[[], Awaitable[None]]]) -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    for clean_up in at_end:
        await clean_up()


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread, process: int) -> None:
    if os.getpid() != process:
        return  # A fork's copy of what lives in its parent.
    loop.call_soon_threadsafe(loop.stop)
    if threading.current_thread() is not thread:
        thread.join()
