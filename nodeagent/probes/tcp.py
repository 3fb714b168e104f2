"""TCP probes: success is a connection that opens."""

from __future__ import annotations

import asyncio
import os

from nodeagent.probes.ports import NoSuchPort, port_number
from nodeagent.probes.verdicts import Answer, Result
from podwire import v1


async def probe(action: v1.TCPSocketAction, container: v1.Container, address: str, timeout: float) -> Answer:
    """`address` is the pod's; `timeout` in seconds."""
    try:
        port = port_number(action.port, container)
    except NoSuchPort as error:
        return Answer(Result.UNKNOWN, str(error))
    host = action.host or address
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return Answer(Result.FAILURE, f"dial tcp {host}:{port}: i/o timeout")
    except (OSError, UnicodeError) as error:
        # A host that is no name at all fails in its encoding.
        number = error.errno if isinstance(error, OSError) else None
        reason = os.strerror(number).lower() if number and number > 0 else str(error)
        return Answer(Result.FAILURE, f"dial tcp {host}:{port}: connect: {reason}")
    # Nothing was sent, so there is nothing to wait for.
    writer.transport.abort()
    return Answer(Result.SUCCESS)
