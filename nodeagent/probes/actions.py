"""Asking a container: one entry for every kind of handler."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final, Protocol, Self

from nodeagent.containerd.client import ContainerdError
from nodeagent.model import ObservedContainer
from nodeagent.probes import grpc, tcp
from nodeagent.probes.http import HttpProber
from nodeagent.probes.verdicts import Answer, Result, timeout
from podwire import v1

# An exec costs about 20 ms of CPU in containerd and runc. Without a limit, hundreds of pods on one node whose probes
# are due together would take every core; the wait for a turn is not part of a probe's timeout.
CONCURRENT_EXECS: Final = 8


class ExecResult(Protocol):
    """`exit_code` counts unless `timed_out`; `output` is the beginning of what the command wrote."""

    @property
    def exit_code(self) -> int: ...

    @property
    def timed_out(self) -> bool: ...

    @property
    def output(self) -> bytes: ...


class ExecRuntime(Protocol):
    """The part of the runtime that exec probes need."""

    async def exec_probe(self, container: ObservedContainer, command: Sequence[str], timeout: float) -> ExecResult: ...


class Actions:
    def __init__(self, runtime: ExecRuntime) -> None:
        self._runtime = runtime
        self._execs = asyncio.Semaphore(CONCURRENT_EXECS)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as undo:
            self._http = await undo.enter_async_context(HttpProber())
            self._undo = undo.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._undo.aclose()

    async def ask(self, probe: v1.Probe, container: v1.Container, running: ObservedContainer, address: str) -> Answer:
        """Puts the probe's question once. `address` is where the pod answers."""
        if probe.HasField("exec"):
            return await self._exec(probe, running)
        if probe.HasField("http_get"):
            return await self._http.probe(probe.http_get, container, address, timeout(probe))
        if probe.HasField("tcp_socket"):
            return await tcp.probe(probe.tcp_socket, container, address, timeout(probe))
        if probe.HasField("grpc"):
            return await grpc.probe(probe.grpc, address, timeout(probe))
        return Answer(Result.UNKNOWN, "missing probe handler")

    async def _exec(self, probe: v1.Probe, running: ObservedContainer) -> Answer:
        command = list(probe.exec.command)
        async with self._execs:
            try:
                result = await self._runtime.exec_probe(running, command, timeout(probe))
            except (ContainerdError, OSError) as error:
                return Answer(Result.UNKNOWN, str(error))
        if result.timed_out:
            return Answer(
                Result.FAILURE, f'command timed out: "{" ".join(command)}" timed out after {timeout(probe):g}s'
            )
        if result.exit_code == 0:
            return Answer(Result.SUCCESS)
        return Answer(Result.FAILURE, result.output.decode("utf-8", "replace"))
