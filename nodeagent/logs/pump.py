"""`podwire-logs`, the node's log pump. It is driven over a unix socket with a JSON object a line:

    {"op": "attach", "id": ID, "stdout": PATH, "stderr": PATH, "log": PATH}    answered when both FIFOs are open
    {"op": "detach", "id": ID}                                                  answered when both FIFOs are empty
    {"op": "list"}

Answers are {"ok": true, …} or {"ok": false, "error": TEXT}. Attach and detach may be repeated.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from nodeagent.logs.control import Client, Gone, listen
from nodeagent.logs.fifo import NotAFifo
from nodeagent.logs.moving import Mover
from nodeagent.logs.report import say
from nodeagent.logs.state import Attachment, BadRequest, StateDir, check_id

# Seconds between attempts to write to a disk that was full.
RETRY: Final = 1.0
# Seconds that a round takes at least while writers are busy, so that one system call moves many lines. A writer that
# pauses for longer than this is read at once.
ROUND: Final = 0.001
_UNITS: Final = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


class Pump:
    """The process: one epoll set for the streams, the socket, its clients and signals."""

    def __init__(self, *, socket_path: Path, state_dir: Path, max_size: int, max_files: int) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._state = StateDir(state_dir)
        self._mover = Mover(state=self._state, poller=self._epoll, max_size=max_size, max_files=max_files)
        self._mover.restore()
        self._listener = listen(socket_path)
        self._socket_path = socket_path
        self._watch(self._listener.fileno(), self._accept)
        self._stopping = False
        self._stop_reader, self._stop_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._watch(self._stop_reader, self._stop)

    def stop(self) -> None:
        """Ends `run`. Safe in a signal handler."""
        os.write(self._stop_writer, b"x")

    def run(self) -> None:
        idle_since = 0.0
        try:
            while not self._stopping:
                more = self._mover.has_ready
                events = self._epoll.poll(0 if more else RETRY if self._mover.has_stuck else None)
                if not events and not more:
                    self._mover.wake_stuck()
                for descriptor, mask in events:
                    handler = self._handlers.get(descriptor)
                    if handler is None:
                        self._mover.wake(descriptor)
                    else:
                        handler(mask)
                early = idle_since + ROUND - time.monotonic()
                if early > 0 and not more:
                    time.sleep(early)
                self._mover.move()
                idle_since = time.monotonic()
        finally:
            self._mover.close()
            self._socket_path.unlink(missing_ok=True)

    def _watch(self, descriptor: int, handler: Callable[[int], None]) -> None:
        self._handlers[descriptor] = handler
        self._epoll.register(descriptor, select.EPOLLIN)

    def _stop(self, _mask: int) -> None:
        self._stopping = True

    def _accept(self, _mask: int) -> None:
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        client = Client(connection)
        self._watch(client.descriptor, lambda mask: self._serve(client, mask))

    def _serve(self, client: Client, mask: int) -> None:
        try:
            if mask & select.EPOLLOUT:
                client.send()
            if mask & ~select.EPOLLOUT:
                for request in client.requests():
                    client.answer(self._answer(request))
            self._epoll.modify(client.descriptor, select.EPOLLIN | (select.EPOLLOUT if client.has_unsent else 0))
        except Gone:
            # Closing also takes it out of the epoll set.
            del self._handlers[client.descriptor]
            client.close()

    def _answer(self, request: dict[str, Any] | None) -> dict[str, Any]:
        if request is None:
            return {"ok": False, "error": "a request is a JSON object on one line"}
        try:
            match request.get("op"):
                case "attach":
                    self._mover.attach(Attachment.parse(request))
                case "detach":
                    self._mover.detach(check_id(request.get("id")))
                case "list":
                    return {"ok": True, "containers": self._mover.attached()}
                case other:
                    return {"ok": False, "error": f"unknown op {other!r}: attach, detach and list are known"}
        except (BadRequest, NotAFifo, OSError) as error:
            say("refused", level="warning", op=request["op"], id=request.get("id"), error=error)
            return {"ok": False, "error": str(error)}
        return {"ok": True}


def parse_size(text: str) -> int:
    """Bytes of `10Mi`, `512Ki`, `1048576`."""
    match = re.fullmatch(r"(\d+)(Ki|Mi|Gi|)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 10Mi")
    return int(match[1]) * _UNITS[match[2]]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="podwire-logs", description="Writes the logs of this node's containers.")
    parser.add_argument("--socket", type=Path, required=True, help="unix socket on which the agent asks")
    parser.add_argument("--state-dir", type=Path, required=True, help="where the containers attended are kept")
    parser.add_argument("--max-size", type=parse_size, default="10Mi", help="a log file is rotated at this size")
    parser.add_argument("--max-files", type=int, default=5, help="files kept of a log, with the current one")
    options = parser.parse_args(arguments)
    if options.max_files < 1:
        parser.error("--max-files must be at least 1")

    options.state_dir.mkdir(parents=True, exist_ok=True)
    # Held until the process ends, however it ends.
    lock = os.open(options.state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("another podwire-logs attends this state directory", level="error", state_dir=options.state_dir)
        return 1
    # Three descriptors a container.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    pump = Pump(
        socket_path=options.socket,
        state_dir=options.state_dir,
        max_size=options.max_size,
        max_files=options.max_files,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: pump.stop())
    say("listening", socket=options.socket)
    pump.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
