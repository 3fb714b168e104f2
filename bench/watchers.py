"""The load generator of watches: a process of its own with many watchers, and the writers of what they watch.

Both are in one process and one loop, so that one clock says how long an event takes: from just before its update is
sent until the watcher's message that holds it has been read. Each update has a number, which its event carries; all
watchers select the same, so all must see the same numbers in the same order, every one of them. That is checked while
it runs, and its end is awaited.

Reads a `Job` as JSON from its standard input and writes an `Outcome` as JSON to its standard output. Run as
`python -m bench.watchers`.
"""

from __future__ import annotations

import json
import re
import select
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from bench.connections import AnyConnection, Server
from bench.http2 import DATA, END_STREAM, UNARY_WINDOW, Failed, Tls, check_trailers
from bench.usage import cpu_seconds, peak_resident_mib, resident_mib

_STALLED_SECONDS: Final = 30.0
# gRPC's own bytes before a message.
_PREFIX: Final = 5
# What a client of gRPC's C core takes before it has measured the line is a quarter of this.
_WATCH_WINDOW: Final = 256 * 1024
# The annotation that carries an update's number: its key, then the tag and length of its value, or what JSON has there.
SEQUENCE_KEY: Final = "bench/sequence"
_SEQUENCE: Final = re.compile(SEQUENCE_KEY.encode() + rb'(?:\x12\x0a|":")(\d{10})')
_WIDTH: Final = 10
# How long to wait for something to arrive before looking at the clock again.
_TURN_SECONDS: Final = 0.1
# Watches that are not established yet: a server limits requests in flight.
_OPENED_AT_ONCE: Final = 50
# Times that are handed over: as many quantiles of all of them.
_QUANTILES: Final = 10_000


@dataclass(frozen=True)
class Job:
    port: int
    ca: str
    cert: str
    key: str
    watch_path: str
    # Messages, in hexadecimal.
    watch_body: str
    watchers: int
    update_path: str
    update_body: str
    # Where an update has its number, and where names of its object have one below `objects`.
    sequence_at: int
    # The first update's number. An update that changes nothing has no event, so that no two jobs may share numbers.
    sequence_from: int
    object_at: Sequence[int]
    objects: int
    writers: int
    # Updates a second; 0: as fast as it goes, with at most `ahead` that the slowest watcher has not seen.
    rate: float
    ahead: int
    seconds: float
    warm_up_seconds: float
    pids: dict[str, int]
    # To a Kubernetes apiserver, where bodies are whole requests of HTTP/1.1 (see bench.rest).
    rest: bool = False


@dataclass(frozen=True)
class Outcome:
    """What happened in the `seconds` that count."""

    seconds: float
    updates: int
    # Delivered, to all watchers together, and in how many messages.
    events: int
    messages: int
    milliseconds: list[float]
    cpu_seconds: dict[str, float]
    # With all watchers open before the first update, at the end, and at most.
    idle_mib: dict[str, float]
    resident_mib: dict[str, float]
    peak_mib: dict[str, float]


class Deliveries:
    """What all watchers have seen, and when each update was sent."""

    def __init__(self) -> None:
        self.sent_at: list[float] = []
        # The updates' numbers in the order of their events, as far as any watcher has come.
        self.order: list[int] = []
        # Events of updates before this one are not counted, and none while it is not known.
        self.first_counted: int | None = None
        self.events = 0
        self.messages = 0
        # When each message came, and which stretch of `order` it had.
        self._arrivals: list[tuple[float, int, int]] = []
        # The last message that was read, which is most often the next watcher's too, and its numbers.
        self._last: tuple[bytes, list[int]] = (b"", [])

    @property
    def counted(self) -> bool:
        return bool(self._arrivals)

    def numbers(self, message: bytes, first: int) -> list[int]:
        """Of the updates whose events these are, counted from `first`; none for a bookmark."""
        last, numbers = self._last
        if message != last:
            numbers = [int(digits) - first for digits in _SEQUENCE.findall(message)]
            self._last = (message, numbers)
        return numbers

    def check(self, position: int, numbers: list[int]) -> None:
        known = self.order[position : position + len(numbers)]
        if known != numbers[: len(known)]:
            raise Failed(f"a watcher sees {numbers} where another saw {known}")
        self.order.extend(numbers[len(known) :])

    def count(self, position: int, events: int, now: float) -> None:
        if self.first_counted is None:
            return
        self.messages += 1
        self.events += events
        self._arrivals.append((now, position, position + events))

    def seconds(self) -> list[float]:
        """From an update to each of its events that count. Reckoned at the end, when nothing waits for it."""
        first, order, sent_at = self.first_counted or 0, self.order, self.sent_at
        return [
            now - sent_at[number]
            for now, start, stop in self._arrivals
            for number in order[start:stop]
            if number >= first
        ]


class _Watcher:
    def __init__(self, connection: AnyConnection, job: Job, deliveries: Deliveries) -> None:
        self._connection = connection
        self._sequence_from = job.sequence_from
        self._deliveries = deliveries
        self._data = b""
        self.open = False
        # How many events it has seen.
        self.position = 0
        connection.request(bytes.fromhex(job.watch_body), long=True)

    def read(self) -> None:
        for type_, flags, payload in self._connection.parts():
            if type_ == DATA:
                for message in self._messages(payload):
                    self._take(message)
            elif flags & END_STREAM:
                raise Failed(f"a watch has ended: {payload!r}")
            else:
                self.open = True

    def _messages(self, payload: bytes) -> Iterable[bytes]:
        if not self._data and len(payload) == _PREFIX + int.from_bytes(payload[1:_PREFIX], "big"):
            # As nearly always: a frame is a message.
            return (payload,)
        return self._split(payload)

    def _split(self, payload: bytes) -> Iterator[bytes]:
        data = self._data + payload if self._data else payload
        position = 0
        while len(data) - position >= _PREFIX:
            stop = position + _PREFIX + int.from_bytes(data[position + 1 : position + _PREFIX], "big")
            if stop > len(data):
                break
            yield data[position:stop]
            position = stop
        self._data = data[position:]

    def _take(self, message: bytes) -> None:
        deliveries = self._deliveries
        numbers = deliveries.numbers(message, self._sequence_from)
        if numbers:
            deliveries.check(self.position, numbers)
            deliveries.count(self.position, len(numbers), time.perf_counter())
            self.position += len(numbers)


class _Writer:
    def __init__(self, connection: AnyConnection, job: Job, deliveries: Deliveries) -> None:
        self._connection = connection
        self._body = bytes.fromhex(job.update_body)
        self._job = job
        self._deliveries = deliveries
        self.idle = True

    def update(self) -> None:
        job, sent_at = self._job, self._deliveries.sent_at
        number = len(sent_at)
        body = _patched(self._body, job.sequence_at, job.sequence_from + number)
        for at in job.object_at:
            body = _patched(body, at, number % job.objects)
        self.idle = False
        sent_at.append(time.perf_counter())
        self._connection.request(body)

    def read(self) -> None:
        for type_, flags, payload in self._connection.parts():
            if type_ != DATA and flags & END_STREAM:
                check_trailers(payload)
                self.idle = True


class _Run:
    def __init__(self, job: Job) -> None:
        self.job = job
        self._server = Server(job.port, Tls(Path(job.ca), Path(job.cert), Path(job.key)), speaks_rest=job.rest)
        self.deliveries = Deliveries()
        self._poll = select.epoll()
        self._ends: dict[int, _Watcher | _Writer] = {}
        self.watchers: list[_Watcher] = []
        self.writers: list[_Writer] = []
        self._connections: list[AnyConnection] = []
        self._slowest = 0
        for number in range(job.watchers):
            if number % _OPENED_AT_ONCE == 0:
                self._wait_open()
            connection = self._connect(job.watch_path, _WATCH_WINDOW)
            watcher = self._ends[connection.socket.fileno()] = _Watcher(connection, job, self.deliveries)
            self.watchers.append(watcher)
        self._wait_open()
        for _ in range(job.writers):
            connection = self._connect(job.update_path)
            writer = self._ends[connection.socket.fileno()] = _Writer(connection, job, self.deliveries)
            self.writers.append(writer)

    def _wait_open(self) -> None:
        while not all(watcher.open for watcher in self.watchers):
            self._read(_STALLED_SECONDS)

    def write_until(self, ends: float) -> float:
        """Updates at the job's pace, until then and until something was measured; the time after it."""
        job = self.job
        now = began = time.perf_counter()
        sent = 0
        deliveries = self.deliveries
        while now < ends or (deliveries.first_counted is not None and not deliveries.counted):
            idle = [writer for writer in self.writers if writer.idle]
            if job.rate:
                due = int((now - began) * job.rate) + 1 - sent
                wait = (sent + due) / job.rate + began - now
            else:
                due = self._room()
                wait = _TURN_SECONDS
            for writer in idle[:due]:
                writer.update()
                sent += 1
            self._read(max(0.0, min(wait, _TURN_SECONDS)), stall=False)
            now = time.perf_counter()
        return now

    def drain(self) -> None:
        """Until every update is answered and has reached every watcher."""
        expected = len(self.deliveries.sent_at)
        ends = time.perf_counter() + _STALLED_SECONDS
        while not all(writer.idle for writer in self.writers) or self._behind(expected):
            if time.perf_counter() > ends:
                waiting = sum(not writer.idle for writer in self.writers)
                late = sum(watcher.position < expected for watcher in self.watchers)
                raise Failed(
                    f"after {_STALLED_SECONDS} s {waiting} updates are not answered, and {late} watchers have not seen "
                    f"all {expected} events"
                )
            self._read(1.0, stall=False)
        if sorted(self.deliveries.order) != list(range(expected)):
            raise Failed("the events are not those of the updates")

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    def _connect(self, path: str, window: int = UNARY_WINDOW) -> AnyConnection:
        connection = self._server.connect(path, window)
        self._connections.append(connection)
        self._poll.register(connection.socket.fileno(), select.EPOLLIN)
        return connection

    def _room(self) -> int:
        """How many more updates may be on their way."""
        sent = len(self.deliveries.sent_at)
        if sent - self._slowest >= self.job.ahead:
            self._slowest = min(watcher.position for watcher in self.watchers)
        return self.job.ahead - (sent - self._slowest)

    def _behind(self, expected: int) -> bool:
        return any(watcher.position < expected for watcher in self.watchers)

    def _read(self, timeout: float, *, stall: bool = True) -> None:
        ready = self._poll.poll(timeout)
        if not ready and stall:
            raise Failed(f"nothing has come for {timeout} s")
        for fileno, _ in ready:
            self._ends[fileno].read()


def run(job: Job) -> Outcome:
    running = _Run(job)
    deliveries = running.deliveries
    idle = {name: resident_mib(pid) for name, pid in job.pids.items()}
    began = running.write_until(time.perf_counter() + job.warm_up_seconds)
    before = _cpu(job)
    first = deliveries.first_counted = len(deliveries.sent_at)
    ended = running.write_until(began + job.seconds)
    after = _cpu(job)
    updates, events, messages = len(deliveries.sent_at) - first, deliveries.events, deliveries.messages
    running.drain()
    resident = {name: resident_mib(pid) for name, pid in job.pids.items()}
    peak = {name: peak_resident_mib(pid) for name, pid in job.pids.items()}
    running.close()
    ranked = sorted(deliveries.seconds())
    step = max(1, len(ranked) // _QUANTILES)
    times = [seconds * 1000 for seconds in ranked[step // 2 :: step]]
    used = {name: after[name] - before[name] for name in after}
    return Outcome(ended - began, updates, events, messages, times, used, idle, resident, peak)


def _patched(body: bytes, at: int, number: int) -> bytes:
    return b"%b%0*d%b" % (body[:at], _WIDTH, number, body[at + _WIDTH :])


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
