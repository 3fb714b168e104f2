"""Watches by many while pods are updated: how soon events arrive, how many a second, and the server's memory.

Each watcher has a connection of its own. The floor is a bare batched stream: a server that appends each update's bytes
to a log, and writes to every stream in its turn what has gathered since that stream's last write; no etcd, nothing
parsed. Generator, sizes, pace, connections and the order of turns are the same. Times are from just before an update is
sent to the arrival of its event.

As fast as it goes means that writers go on as long as the slowest watcher has not missed more than a few hundred
updates: batches grow until their bytes, and no longer their number, are what costs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from typing import Final

from bench.api import COUNTER, LISTED_POD_BYTES, add_processes, create_pods, sized_pod
from bench.backends import Backends, Server, bare_method, run_generator, running_backends
from bench.measures import Measure, percentile
from bench.watchers import SEQUENCE_KEY, Job, Outcome
from podwire import v1

# The share of the full pace at which a server is still at ease.
_AT_EASE: Final = 0.7
_WRITERS: Final = 16
# More than a round can have updates.
_ROUND_NUMBERS: Final = 10_000_000
# Another number than the sequence's, to be found in an encoded update.
_SEQUENCE: Final = "1111111111"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pods", type=int, default=5_000, help="how many there are (%(default)s)")
    parser.add_argument("--watchers", type=int, default=500, help="as fast as it goes (%(default)s)")
    parser.add_argument("--calm-watchers", type=int, default=100, help="at a fixed rate (%(default)s)")
    parser.add_argument("--rate", type=float, default=200.0, help="updates a second for them (%(default)s)")
    parser.add_argument(
        "--ahead", type=int, default=256, help="updates that the slowest may not have seen (%(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=8.0, help="of each round (%(default)s)")
    add_processes(parser)


async def watch_fanout(options: argparse.Namespace) -> AsyncIterator[Measure]:
    async with running_backends(options.processes) as backends:
        await create_pods(backends, options.pods)
        rounds = _Rounds(backends, options, await _event(backends))
        calm, bare = await rounds.both(options.calm_watchers, options.rate)
        yield _latency("watch_latency", options, calm, bare)
        fast, bare = await rounds.both(options.watchers, 0.0)
        yield Measure(
            "watch_rate",
            "events/s",
            _params(options, fast, bare),
            floor=bare.events / bare.seconds,
            value=fast.events / fast.seconds,
        )
        yield _latency("watch_rate_latency", options, fast, bare)
        easy, bare = await rounds.both(options.watchers, fast.updates / fast.seconds * _AT_EASE)
        yield _latency("watch_at_70_percent_latency", options, easy, bare)
        memory = {name: round(mib, 1) for name, mib in easy.idle_mib.items()}
        yield Measure(
            "watch_memory",
            "MiB",
            {"pods": options.pods, "watchers": options.watchers, "processes": options.processes}
            | {"idle": memory["server"], "etcd": memory["etcd"]}
            | {"peak": round(easy.peak_mib["server"], 1)},
            floor=bare.resident_mib["server"],
            value=easy.resident_mib["server"],
        )


class _Rounds:
    """Rounds of the server, each followed by the same of its floor."""

    def __init__(self, backends: Backends, options: argparse.Namespace, event: bytes) -> None:
        self._backends = backends
        self._options = options
        update = sized_pod(f"pod-{COUNTER}", size=LISTED_POD_BYTES)
        update.metadata.annotations[SEQUENCE_KEY] = _SEQUENCE
        self._update = v1.PodUpdateRequest(object=update).SerializeToString()
        self._event = event
        self._rounds = 0

    async def both(self, watchers: int, rate: float) -> tuple[Outcome, Outcome]:
        backends = self._backends
        watch = v1.WatchRequest().SerializeToString()
        own = self._job(backends.api, "/podwire.v1.Pods/Watch", watch, "/podwire.v1.Pods/Update", self._update)
        bare = self._job(backends.bare, bare_method("Watch"), b"", bare_method("Publish"), self._event)
        await backends.set_answer(self._event)
        self._rounds += 1
        first = self._rounds * _ROUND_NUMBERS
        jobs = [replace(job, watchers=watchers, rate=rate, sequence_from=first) for job in (own, bare)]
        return await _generate(jobs[0]), await _generate(jobs[1])

    def _job(self, server: Server, watch_path: str, watch: bytes, update_path: str, update: bytes) -> Job:
        options, tls = self._options, self._backends.tls
        return Job(
            port=server.port,
            ca=str(tls.ca),
            cert=str(tls.cert),
            key=str(tls.key),
            watch_path=watch_path,
            watch_body=watch.hex(),
            watchers=0,
            update_path=update_path,
            update_body=update.hex(),
            sequence_at=update.index(_SEQUENCE.encode()),
            sequence_from=0,
            object_at=[update.index(COUNTER.encode())],
            objects=options.pods,
            writers=_WRITERS,
            rate=0.0,
            ahead=options.ahead,
            seconds=options.seconds,
            warm_up_seconds=options.seconds / 4,
            pids={"server": server.pid, "etcd": self._backends.etcd_pid},
        )


async def _generate(job: Job) -> Outcome:
    return Outcome(**json.loads(await run_generator("bench.watchers", json.dumps(asdict(job)))))


async def _event(backends: Backends) -> bytes:
    """An object as the server's events carry it, for the floor to send as many bytes."""
    async with backends.client() as client:
        pod = await client.pods.get(f"pod-{COUNTER}")
    pod.metadata.annotations[SEQUENCE_KEY] = _SEQUENCE
    return pod.SerializeToString()


def _latency(name: str, options: argparse.Namespace, outcome: Outcome, bare: Outcome) -> Measure:
    return Measure(
        name,
        "ms",
        _params(options, outcome, bare),
        floor=percentile(bare.milliseconds, 0.5),
        samples=outcome.milliseconds,
    )


def _params(options: argparse.Namespace, outcome: Outcome, bare: Outcome) -> dict[str, object]:
    """CPU time is a delivered event's; `floor_p99` is the bare stream's latency."""
    used = {f"{name}_us": round(seconds * 1e6 / outcome.events, 2) for name, seconds in outcome.cpu_seconds.items()}
    return {
        "processes": options.processes,
        "updates_per_s": round(outcome.updates / outcome.seconds, 1),
        "events": outcome.events,
        "events_per_message": round(outcome.events / outcome.messages, 2),
        **used,
        "floor": "bare batched stream",
        "floor_updates_per_s": round(bare.updates / bare.seconds, 1),
        "floor_us": round(bare.cpu_seconds["server"] * 1e6 / bare.events, 2),
        "floor_events_per_message": round(bare.events / bare.messages, 2),
        "floor_p99": round(percentile(bare.milliseconds, 0.99), 3),
    }
