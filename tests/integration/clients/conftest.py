"""A server as clients in other languages reach it: an address with TLS, and a unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from podwire.client import Client, Tls
from tests.integration.controlplane.etcd_server import EtcdServer, free_ports
from tests.integration.controlplane.replica import running_api
from tests.unit.podwire.certificates import certificates


@dataclass(frozen=True, slots=True)
class Server:
    """`tls` is what a client shows at `address`; `socket` needs none; `client` is the test's own."""

    address: str
    tls: Tls
    socket: str
    client: Client


@pytest.fixture(scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    etcd = EtcdServer(tmp_path_factory.mktemp("etcd"))
    tls = certificates(tmp_path_factory.mktemp("certificates") / "ca")
    address = f"127.0.0.1:{free_ports(1)[0]}"
    await etcd.start()
    try:
        async with running_api(etcd.url, listen=address, tls=tls) as api:
            yield Server(address, tls, api.endpoint, api.client)
    finally:
        await etcd.kill()


async def run(*command: str | Path, environment: dict[str, str] | None = None, seconds: float = 60) -> list[str]:
    """The lines that a program prints; it must end well, and in time."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment
    )
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()
    return out.decode().splitlines()
