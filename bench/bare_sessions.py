"""The floor of a session: a server that sends every heartbeat back and does nothing else.

`python -m bench.bare_sessions HOST:PORT --ca … --cert … --key …`; prints `serving` when it does.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import uvloop

from bench.simulated_agents import SESSION
from podwire import v1


async def _session(incoming: AsyncIterator[v1.AgentMessage], _: Any) -> AsyncIterator[v1.ControlMessage]:
    async for message in incoming:
        if message.HasField("hello"):
            yield v1.ControlMessage(welcome=v1.Welcome())
        else:
            yield v1.ControlMessage(heartbeat=message.heartbeat)


async def serve(address: str, credentials: grpc.ServerCredentials) -> None:
    server = grpc.aio.server(options=[("grpc.http2.min_ping_interval_without_data_ms", 1_000)])
    handler = grpc.stream_stream_rpc_method_handler(
        _session,
        request_deserializer=v1.AgentMessage.FromString,
        response_serializer=v1.ControlMessage.SerializeToString,
    )
    _, service, method = SESSION.split("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    server.add_secure_port(address, credentials)
    await server.start()
    print("serving", flush=True)
    await asyncio.get_running_loop().create_future()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.bare_sessions")
    parser.add_argument("address")
    for name in ("ca", "cert", "key"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    pairs = [(options.key.read_bytes(), options.cert.read_bytes())]
    credentials = grpc.ssl_server_credentials(pairs, options.ca.read_bytes(), require_client_auth=True)
    uvloop.run(serve(options.address, credentials))


if __name__ == "__main__":
    main()
