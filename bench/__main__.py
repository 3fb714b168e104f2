"""`python -m bench NAME [--lab LAB] [-n N]`: runs one benchmark on a lab and prints a JSON line a measure."""

from __future__ import annotations

import argparse
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import uvloop

from bench import pods
from bench.labs import running_lab
from bench.measures import Measure
from lab.plan import Plan
from lab.programs import search_path


@dataclass(frozen=True, slots=True)
class Benchmark:
    run: Callable[[Plan, int], Awaitable[list[Measure]]]
    # How many repetitions where none are asked for.
    n: int
    about: str


BENCHMARKS: Final[Mapping[str, Benchmark]] = {
    "pod_start": Benchmark(pods.pod_start, 30, "milliseconds from Create to Ready, one pod at a time"),
    "pod_burst": Benchmark(pods.pod_burst, 50, "pods a second when many are created at once on one node"),
}


async def run(name: str, lab: str | None, n: int | None) -> None:
    benchmark = BENCHMARKS[name]
    async with running_lab(lab) as plan:
        for measure in await benchmark.run(plan, n or benchmark.n):
            print(measure.line(), flush=True)


def main() -> None:
    listed = "\n".join(f"  {name:<12} {benchmark.about}" for name, benchmark in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=f"Benchmarks:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=BENCHMARKS)
    parser.add_argument("--lab", help="a running lab to use; without it one is made for the run")
    parser.add_argument("-n", type=int, help="repetitions")
    options = parser.parse_args()
    # The floor starts what a lab's nodes start, so it looks for it where they do.
    os.environ["PATH"] = search_path()
    uvloop.run(run(options.name, options.lab, options.n))


if __name__ == "__main__":
    main()
