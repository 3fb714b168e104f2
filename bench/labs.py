"""The lab that a benchmark runs on: one that is there already, or one of its own for the run."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lab.plan import Plan, saved


@asynccontextmanager
async def running_lab(name: str | None, *, nodes: int = 1) -> AsyncIterator[Plan]:
    """The lab called `name`, left as it is; without a name a new one of `nodes` nodes, removed at the end."""
    if name is not None:
        yield _plan(name)
        return
    name = f"bench-{uuid.uuid4().hex[:6]}"
    try:
        await _lab("up", "--name", name, "--nodes", str(nodes))
        yield _plan(name)
    finally:
        await _lab("down", name)


def _plan(name: str) -> Plan:
    plan = saved(name)
    if plan is None:
        raise SystemExit(f"there is no lab {name}: start one with `podwire-lab up --name {name}`, or leave --lab out")
    return plan


async def _lab(*args: str) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "lab", *args, stdout=sys.stderr)
    if await process.wait() != 0:
        raise SystemExit(f"podwire-lab {' '.join(args)} failed")
