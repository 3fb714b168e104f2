"""`python -m bench NAME [options]`: runs one benchmark and prints a JSON line a measure (see docs/benchmarks.md)."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import uvloop

from bench import api, fanout, kubernetes, many_agents, pods
from bench.measures import Measure
from lab.programs import search_path


@dataclass(frozen=True, slots=True)
class Benchmark:
    about: str
    run: Callable[[argparse.Namespace], AsyncIterator[Measure]]
    add_options: Callable[[argparse.ArgumentParser], None]


BENCHMARKS: Final[Mapping[str, Benchmark]] = {
    "pod_start": Benchmark("milliseconds from Create to Ready, one pod at a time", pods.pod_start, pods.add_options),
    "pod_burst": Benchmark(
        "pods a second when many are created at once on one node", pods.pod_burst, pods.add_burst_options
    ),
    "api_create": Benchmark("creates a second, by 1, 16 and 64 clients", api.api_create, api.add_options),
    "api_get": Benchmark("gets a second, cached and linearizable", api.api_get, api.add_options),
    "api_list": Benchmark("milliseconds to list 5,000 pods", api.api_list, api.add_list_options),
    "watch_fanout": Benchmark("events to hundreds of watchers", fanout.watch_fanout, fanout.add_options),
    "many_agents": Benchmark("what a node costs the control plane", many_agents.many_agents, many_agents.add_options),
    "kubernetes": Benchmark("a kube-apiserver and ours, in turns", kubernetes.kubernetes, kubernetes.add_options),
}


async def run(benchmark: Benchmark, options: argparse.Namespace) -> None:
    running = asyncio.current_task()
    assert running is not None
    # As Ctrl-C does: what was started is stopped.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    async for measure in benchmark.run(options):
        print(measure.line(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, benchmark in BENCHMARKS.items():
        benchmark.add_options(names.add_parser(name, help=benchmark.about, description=benchmark.about))
    options = parser.parse_args()
    # Floors and servers are the programs that a lab's nodes start, so they are looked for where they do.
    os.environ["PATH"] = search_path()
    try:
        uvloop.run(run(BENCHMARKS[options.name], options))
    except asyncio.CancelledError:
        sys.exit("stopped")


if __name__ == "__main__":
    main()
