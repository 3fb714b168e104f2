"""podwire-agent: runs a node's agent, or checks the node."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable

import structlog
import uvloop

from nodeagent import agent, check, logging, settings

log = structlog.get_logger(__name__)


def main() -> None:
    command, given = settings.parse(sys.argv[1:])
    if command == "check":
        sys.exit(uvloop.run(check.run(given)))
    logging.configure(given.log_format, given.log_level)
    uvloop.run(_until_told(agent.run(given)))


async def _until_told(work: Awaitable[object]) -> None:
    """Runs `work` until SIGTERM or SIGINT; then the agent ends and its pods go on."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        log.info("agent stops, pods keep running")


if __name__ == "__main__":
    main()
