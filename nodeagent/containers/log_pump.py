"""Asking the node's log pump to read a container's output, over its unix socket, a JSON object a line.

The pump (nodeagent/logs/pump.py) is another process: it outlives the agent, so that no container blocks on its output.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Final

_SECONDS: Final = 10.0
"""For an answer: opening two FIFOs takes less than a millisecond, emptying one some more."""


class LogPumpError(OSError):
    """The pump does not answer, or refuses."""


class LogPump:
    """The pump behind `socket`; every request has a connection of its own, as the pump may be restarted at any time."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def attach(self, id: str, *, stdout: Path, stderr: Path | None, log: Path) -> None:
        """Returns when both FIFOs have a reader. Raises LogPumpError."""
        await self._ask(
            {"op": "attach", "id": id, "stdout": str(stdout), "stderr": str(stderr or ""), "log": str(log)},
        )

    async def detach(self, id: str) -> None:
        """Returns when what the container wrote is in its log. Raises LogPumpError."""
        await self._ask({"op": "detach", "id": id})

    async def _ask(self, request: dict[str, str]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(_SECONDS):
                reader, writer = await asyncio.open_unix_connection(self._socket)
                try:
                    writer.write(json.dumps(request).encode() + b"\n")
                    line = await reader.readline()
                finally:
                    writer.close()
        except OSError as error:
            # TimeoutError is one of them.
            raise LogPumpError(f"the log pump at {self._socket} does not answer: {error or 'timeout'}") from None
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            raise LogPumpError(f"the log pump at {self._socket} closed the connection") from None
        if not answer.get("ok"):
            raise LogPumpError(f"the log pump refuses: {answer.get('error')}")
        return answer
