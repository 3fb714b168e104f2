"""The load generator of unary calls: a process of its own, N clients, each with one call on its way at a time.

Reads a `Job` as JSON from its standard input and writes an `Outcome` as JSON to its standard output. Every answer is
checked: a success, of the size it should have. Run as `python -m bench.closed_loop`; it imports next to nothing.
"""

from __future__ import annotations

import json
import select
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from pathlib import Path

from bench.connections import AnyConnection, Server
from bench.http2 import DATA, END_STREAM, Failed, Tls, check_trailers
from bench.usage import cpu_seconds

# A call that takes longer than this is taken for lost.
_STALLED_SECONDS = 30.0
# gRPC's own bytes before a message.
_PREFIX = 5
# Of a page's beginning, which says of the next one: what a list's metadata has at most.
_BEGINNING = 1024


@dataclass(frozen=True)
class Job:
    """What to send, to whom, and for how long."""

    port: int
    ca: str
    cert: str
    key: str
    path: str
    # The request's message, in hexadecimal.
    body: str
    clients: int
    seconds: float
    warm_up_seconds: float
    # Bytes that the answer's message must have at least and at most.
    answer_bytes: tuple[int, int]
    # Where a number of `counter_width` digits is written into the body, another in each call; -1: nowhere.
    counter_at: int = -1
    counter_width: int = 10
    counter_from: int = 0
    # Where an answer names a next page (its ListMeta has `continue`), ask for it: the pages are one call.
    pages: bool = False
    # Requests, one after another, that are one call.
    requests: int = 1
    # To a Kubernetes apiserver, where the body is a whole request of HTTP/1.1 (see bench.rest).
    rest: bool = False
    # Processes whose CPU time to measure, by name.
    pids: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What happened while it counted: all calls that ended in `seconds`."""

    seconds: float
    milliseconds: list[float]
    # CPU time of each of the job's processes in that time, and of the generator itself.
    cpu_seconds: dict[str, float]
    # Where the next job's counter goes on.
    counter: int
    # Of the last call, and in how many messages.
    answer_bytes: int
    answer_messages: int


def together(outcomes: Sequence[Outcome]) -> Outcome:
    """Several rounds of one job as one."""
    last = outcomes[-1]
    return replace(
        last,
        seconds=sum(outcome.seconds for outcome in outcomes),
        milliseconds=[took for outcome in outcomes for took in outcome.milliseconds],
        cpu_seconds={name: sum(outcome.cpu_seconds[name] for outcome in outcomes) for name in last.cpu_seconds},
    )


class _Client:
    def __init__(self, job: Job, connection: AnyConnection, numbers: count[int]) -> None:
        self._job = job
        self._body = bytes.fromhex(job.body)
        self._connection = connection
        self._numbers = numbers
        self._began = 0.0
        # Of the answers so far that belong to the call, and of the beginning of the one that is coming.
        self._size = 0
        self._beginning = b""
        self._left = 0
        self._messages = 0
        self.fileno = connection.socket.fileno()
        self.idle = True
        self.answer_bytes = 0
        self.answer_messages = 0

    def begin(self, now: float) -> None:
        self._began = now
        self._size = 0
        self._left = self._job.requests
        self._messages = 0
        self.idle = False
        self._connection.request(self._next_body())

    def read(self) -> float | None:
        """Takes what has arrived; the call's milliseconds where that ends it."""
        took = None
        for type_, flags, payload in self._connection.parts():
            if type_ == DATA:
                self._size += len(payload)
                if self._job.pages and len(self._beginning) < _BEGINNING:
                    self._beginning += payload[:_BEGINNING]
            elif flags & END_STREAM:
                check_trailers(payload)
                took = self._end()
        return took

    def _end(self) -> float | None:
        self._size -= _PREFIX
        self._left -= 1
        self._messages += 1
        token = b""
        if self._job.pages:
            token = continue_of(self._beginning[_PREFIX:])
            self._beginning = b""
        if token or self._left > 0:
            more = b"\x2a" + _varint(len(token)) + token if token else b""
            self._connection.request(self._body + more)
            return None
        took = (time.perf_counter() - self._began) * 1000
        at_least, at_most = self._job.answer_bytes
        if not at_least <= self._size <= at_most:
            raise Failed(f"an answer has {self._size} bytes, not {at_least} to {at_most}")
        self.answer_bytes = self._size
        self.answer_messages = self._messages
        self.idle = True
        return took

    def _next_body(self) -> bytes:
        job = self._job
        if job.counter_at < 0:
            return self._body
        number = b"%0*d" % (job.counter_width, next(self._numbers))
        return self._body[: job.counter_at] + number + self._body[job.counter_at + job.counter_width :]


def run(job: Job) -> Outcome:
    server = Server(job.port, Tls(Path(job.ca), Path(job.cert), Path(job.key)), speaks_rest=job.rest)
    numbers = count(job.counter_from)
    connections = [server.connect(job.path) for _ in range(job.clients)]
    clients = {client.fileno: client for client in (_Client(job, one, numbers) for one in connections)}
    poll = select.epoll()
    for fileno in clients:
        poll.register(fileno, select.EPOLLIN)
    now = time.perf_counter()
    for client in clients.values():
        client.begin(now)
    counts_from = now + job.warm_up_seconds
    ends = counts_from + job.seconds
    times: list[float] = []
    before: dict[str, float] = {}
    started = 0.0
    # On a machine that is much too busy it goes on until something could be measured.
    while now < ends or not (before and times):
        ready = poll.poll(_STALLED_SECONDS)
        if not ready:
            raise Failed(f"no answer for {_STALLED_SECONDS} s")
        now = time.perf_counter()
        if not before and now >= counts_from:
            before, started = _cpu(job), now
            times.clear()
        for fileno, _ in ready:
            client = clients[fileno]
            took = client.read()
            if took is not None:
                times.append(took)
                client.begin(time.perf_counter())
    after = _cpu(job)
    used = {name: after[name] - before.get(name, 0.0) for name in after}
    _drain(poll, clients)
    for connection in connections:
        connection.close()
    last = next(iter(clients.values()))
    return Outcome(now - started, times, used, next(numbers), last.answer_bytes, last.answer_messages)


def _drain(poll: select.epoll, clients: dict[int, _Client]) -> None:
    """Waits for the calls that are still on their way, so that the server finishes nothing in the next job's time."""
    while not all(client.idle for client in clients.values()):
        ready = poll.poll(_STALLED_SECONDS)
        if not ready:
            raise Failed(f"no answer for {_STALLED_SECONDS} s")
        for fileno, _ in ready:
            clients[fileno].read()


def continue_of(page: bytes) -> bytes:
    """The `continue` token of a list: field 2 of its metadata, which are its field 1 and come first."""
    if not page.startswith(b"\x0a"):
        raise Failed("a list does not begin with its metadata")
    length, position = _read_varint(page, 1)
    end = position + length
    while position < end:
        tag, position = _read_varint(page, position)
        if tag & 7 == 0:
            _, position = _read_varint(page, position)
            continue
        length, position = _read_varint(page, position)
        if tag >> 3 == 2:
            return page[position : position + length]
        position += length
    return b""


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _cpu(job: Job) -> dict[str, float]:
    return {"generator": time.process_time(), **{name: cpu_seconds(pid) for name, pid in job.pids.items()}}


def main() -> None:
    try:
        outcome = run(Job(**json.load(sys.stdin)))
    except (Failed, OSError) as wrong:
        sys.exit(f"the load generator failed: {wrong}")
    json.dump(asdict(outcome), sys.stdout)


if __name__ == "__main__":
    main()
