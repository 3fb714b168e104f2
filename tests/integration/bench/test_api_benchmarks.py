"""The benchmarks of the API, with parameters so small that only their working is seen, not their figures."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import pytest

from lab.programs import search_path

_QUICK = ("--clients", "2", "--seconds", "0.2")


async def bench(*arguments: str) -> list[dict[str, Any]]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench", *arguments, stdout=pipe, stderr=pipe, env={"PATH": search_path()}
    )
    try:
        async with asyncio.timeout(120):
            output, wrong = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    assert process.returncode == 0, wrong.decode()
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "measures"),
    [
        (("api_create", *_QUICK), ["api_create", "api_create_latency"] * 2),
        (("api_get", *_QUICK), ["api_get", "api_get_latency"] * 2),
        (("api_list", "--pods", "30", *_QUICK), ["api_list", "api_list_latency"]),
        (
            ("watch_fanout", "--pods", "7", "--watchers", "5", "--calm-watchers", "3", "--seconds", "0.5"),
            ["watch_latency", "watch_rate", "watch_rate_latency", "watch_at_70_percent_latency", "watch_memory"],
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
async def test_a_benchmark_prints_its_measures_with_their_floors(
    arguments: tuple[str, ...], measures: list[str]
) -> None:
    lines = await bench(*arguments)
    assert [line["measure"] for line in lines] == measures
    for line in lines:
        assert line["floor"] > 0
        assert (line["value"] if "value" in line else line["p50"]) > 0
        assert line["ratio"] > 0
