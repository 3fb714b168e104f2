"""Moves what containers write from their FIFOs to their log files.

One thread and one epoll set, edge triggered: an incomplete line stays in its FIFO and must not wake us again. A writer
never blocks while the pump lives. Where the disk is full the output waits in the FIFO; when that is half full it is
dropped, counted, and reported in the log as soon as that can be written again.

What this process attends outlives it: after SIGKILL the next one reopens the same FIFOs and loses nothing, since bytes
leave a FIFO after they are in the log. It may write the last batch of each stream a second time.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from nodeagent.logs import cri, fifo
from nodeagent.logs.logfile import LogFile
from nodeagent.logs.report import say
from nodeagent.logs.state import Attachment, BadRequest, StateDir

# Emptying a stream ends here, though somebody may go on writing.
_LONGEST_DRAIN: Final = 64 * fifo.CAPACITY


# Not dataclasses: importing them takes a fifth of the time that this process has to start.
class Stream:
    """One FIFO, and what had to be dropped of it since its log was last written."""

    __slots__ = ("descriptor", "dropped_because", "dropped_bytes", "dropped_lines", "log", "name", "path")

    def __init__(self, name: bytes, path: Path, descriptor: int, log: LogFile) -> None:
        self.name = name
        self.path = path
        self.descriptor = descriptor
        self.log = log
        self.dropped_lines = 0
        self.dropped_bytes = 0
        self.dropped_because = ""


class Container:
    __slots__ = ("attachment", "log", "streams")

    def __init__(self, attachment: Attachment, log: LogFile) -> None:
        self.attachment = attachment
        self.log = log
        self.streams: list[Stream] = []


class Mover:
    """The containers attended. `poller` wakes its owner for a stream; the owner then calls `wake` and `move`."""

    def __init__(
        self,
        *,
        state: StateDir,
        poller: select.epoll,
        max_size: int,
        max_files: int,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._state = state
        self._poller = poller
        self._max_size = max_size
        self._max_files = max_files
        self._now_ns = now_ns
        self._clock = cri.Clock()
        self._scratch = fifo.Scratch()
        self._containers: dict[str, Container] = {}
        self._streams: dict[int, Stream] = {}
        # Streams with something to read, and streams whose log could not be written; in order of arrival.
        self._ready: dict[Stream, None] = {}
        self._stuck: dict[Stream, None] = {}

    @property
    def has_ready(self) -> bool:
        return bool(self._ready)

    @property
    def has_stuck(self) -> bool:
        return bool(self._stuck)

    def restore(self) -> None:
        """Takes up what the process before this one attended."""
        for attachment in self._state.load():
            try:
                self._open(attachment, fifo.reopen_fifo)
            except FileNotFoundError:
                # The agent has removed the container's FIFOs: nobody writes to them any more.
                self._state.forget(attachment.id)
                say("forgot a container whose pipes are gone", id=attachment.id)
        say("restored", containers=len(self._containers))

    def attach(self, attachment: Attachment) -> None:
        """Returns when both FIFOs are open. Raises BadRequest or OSError, and then nothing has changed."""
        known = self._containers.get(attachment.id)
        if known is not None:
            if known.attachment != attachment:
                raise BadRequest(f"{attachment.id} is attached with other paths; detach it first")
            if all(fifo.is_at(stream.descriptor, stream.path) for stream in known.streams):
                return
            # An agent that was killed while it made the container makes it again, with new FIFOs at the old paths.
            self.detach(attachment.id)
        container = self._open(attachment, fifo.open_fifo)
        try:
            container.log.open()
            self._state.save(attachment)
        except OSError:
            self._close(container)
            raise

    def detach(self, container_id: str) -> None:
        """Returns when everything written so far is in the log. A container that is not attached is no error."""
        container = self._containers.get(container_id)
        if container is not None:
            for stream in container.streams:
                self._drain(stream, last=True)
            self._close(container)
        self._state.forget(container_id)

    def attached(self) -> list[dict[str, Any]]:
        return [container.attachment._asdict() for container in self._containers.values()]

    def wake(self, descriptor: int) -> None:
        """The poller has reported `descriptor`."""
        stream = self._streams.get(descriptor)
        if stream is not None:
            self._ready[stream] = None

    def wake_stuck(self) -> None:
        """It is time to try again what could not be written."""
        self._ready.update(self._stuck)

    def move(self) -> None:
        """One batch of every stream that has something, so that none waits for a noisy one."""
        for stream in list(self._ready):
            if not self._step(stream):
                self._ready.pop(stream, None)

    def close(self) -> None:
        """Moves what is complete; incomplete lines stay in their FIFOs for the next process."""
        for container in list(self._containers.values()):
            for stream in container.streams:
                self._drain(stream, last=False)
            self._close(container)
        self._scratch.close()

    def _open(self, attachment: Attachment, open_fifo: Callable[[Path], int]) -> Container:
        log = LogFile(Path(attachment.log), max_size=self._max_size, max_files=self._max_files)
        container = Container(attachment, log)
        try:
            for name, text in ((b"stdout", attachment.stdout), (b"stderr", attachment.stderr)):
                if text:
                    path = Path(text)
                    stream = Stream(name, path, open_fifo(path), log)
                    container.streams.append(stream)
                    self._poller.register(stream.descriptor, select.EPOLLIN | select.EPOLLET)
                    self._streams[stream.descriptor] = stream
        except BaseException:
            self._close(container)
            raise
        self._containers[attachment.id] = container
        return container

    def _close(self, container: Container) -> None:
        self._containers.pop(container.attachment.id, None)
        for stream in container.streams:
            self._streams.pop(stream.descriptor, None)
            self._ready.pop(stream, None)
            self._stuck.pop(stream, None)
            os.close(stream.descriptor)
        container.log.close()

    def _drain(self, stream: Stream, *, last: bool) -> None:
        moved = 0
        while moved < _LONGEST_DRAIN and (step := self._step(stream, last=last)):
            moved += step

    def _step(self, stream: Stream, *, last: bool = False) -> int:
        """Moves one batch from the FIFO to the log; `last` takes an incomplete line too. Returns the bytes moved."""
        data = self._scratch.peek(stream.descriptor)
        if not data:
            return 0
        stamp = self._clock.stamp(self._now_ns())
        lines, count = cri.encode(data, stream.name, stamp)
        if not count and (last or fifo.is_full(stream.descriptor)):
            # Less than one line is all there is, and no more comes; or many tiny writes fill the FIFO with it.
            lines, count = cri.encode(data, stream.name, stamp, flush=True)
        if not count:
            return 0
        try:
            stream.log.append(_notice(stream, stamp) + lines)
        except OSError as error:
            if stream not in self._stuck:
                self._stuck[stream] = None
                say("cannot write a log", level="error", log=str(stream.log.path), error=error.strerror)
            if not last and not fifo.is_half_full(stream.descriptor):
                return 0
            stream.dropped_lines += data.count(b"\n", 0, count)
            stream.dropped_bytes += count
            stream.dropped_because = error.strerror or str(error)
        else:
            if self._stuck and stream in self._stuck:
                del self._stuck[stream]
                say("the log can be written again", log=str(stream.log.path), dropped_bytes=stream.dropped_bytes)
            stream.dropped_lines = stream.dropped_bytes = 0
        self._scratch.take(stream.descriptor, count)
        return count


def _notice(stream: Stream, stamp: bytes) -> bytes:
    """The line that says what is missing here."""
    if not stream.dropped_bytes:
        return b""
    text = (
        f"podwire-logs: {stream.dropped_lines} lines ({stream.dropped_bytes} bytes) of {stream.name.decode()} "
        f"were dropped: {stream.dropped_because}\n"
    )
    return cri.encode(text.encode(), b"stderr", stamp)[0]
