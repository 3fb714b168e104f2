"""podctl as a process, as its user runs it."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Output:
    status: int
    out: str
    err: str

    @property
    def rows(self) -> list[list[str]]:
        """The fields of a table's lines, headers first."""
        return [line.split() for line in self.out.splitlines()]


class Podctl:
    """Commands against the server of one configuration, in one namespace."""

    def __init__(self, config: Path, namespace: str) -> None:
        self.config = config
        self.namespace = namespace

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "podctl", *words]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PODWIRE_CONFIG": str(self.config)}

    async def start(self, *words: str) -> asyncio.subprocess.Process:
        """A command that goes on; it ends when the test kills it."""
        return await asyncio.create_subprocess_exec(
            *self.argv("-n", self.namespace, *words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment,
        )

    async def __call__(self, *words: str, stdin: str = "", status: int | None = 0) -> Output:
        """Runs a command to its end and expects `status` of it; None: any."""
        process = await asyncio.create_subprocess_exec(
            *self.argv("-n", self.namespace, *words),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment,
        )
        async with asyncio.timeout(30):
            out, err = await process.communicate(stdin.encode())
        output = Output(process.returncode or 0, out.decode(), err.decode())
        assert status is None or output.status == status, output
        return output
