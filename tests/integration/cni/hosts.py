"""Hosts for tests: network namespaces, wires between them, and servers that answer with their name.

Nothing here touches the machine's own network: every interface is made in a namespace of the test's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
import uvloop

from cni.namespaces import run_in

T = TypeVar("T")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

_numbers = itertools.count()


class Host:
    """A network namespace with loopback up."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = Path("/run/netns", name)

    def run(self, work: Callable[[], T]) -> T:
        """`work`, done in the host; so are the threads and processes it starts."""
        return run_in(self.path, work)

    def run_async(self, scenario: Callable[[], Awaitable[T]]) -> T:
        async def main() -> T:
            return await scenario()

        return self.run(lambda: uvloop.run(main()))

    def command(self, *command: str) -> str:
        return self.run(lambda: subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    def links(self) -> set[str]:
        return {line.split(": ")[1].split("@")[0] for line in self.command("ip", "-o", "link").splitlines()}


@contextmanager
def host() -> Iterator[Host]:
    name = f"pwtest-{os.getpid()}-{next(_numbers)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        made = Host(name)
        made.command("ip", "link", "set", "lo", "up")
        yield made
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def wire(one: Host, other: Host, *, one_address: str, other_address: str, name: str = "uplink") -> None:
    """An interface in each, connected. An address without a prefix is left out (for the port of a bridge)."""
    port = f"to{other.name.rpartition('-')[2]}"
    one.command("ip", "link", "add", port, "type", "veth", "peer", "name", name, "netns", other.name)
    for side, interface, address in ((one, port, one_address), (other, name, other_address)):
        side.command("ip", "link", "set", interface, "up")
        if address:
            side.command("ip", "addr", "add", address, "dev", interface)


class NameServer:
    """Answers every TCP connection and every UDP packet on a port of `host` with its name and the client's address."""

    def __init__(self, host: Host, name: str, port: int, address: str = "0.0.0.0") -> None:
        self._name = name
        self._tcp = host.run(lambda: socket.create_server((address, port), backlog=128))
        self._udp = host.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._udp.bind((address, port))
        self._threads = [threading.Thread(target=serve, daemon=True) for serve in (self._serve_tcp, self._serve_udp)]
        for thread in self._threads:
            thread.start()

    def _serve_tcp(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, client = self._tcp.accept()
                with connection:
                    connection.sendall(f"{self._name} {client[0]}".encode())

    def _serve_udp(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                _, client = self._udp.recvfrom(100)
                if client is None:  # shut down
                    return
                self._udp.sendto(f"{self._name} {client[0]}".encode(), client)

    def close(self) -> None:
        for server in (self._tcp, self._udp):
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()
        for thread in self._threads:
            thread.join()


def ask(host: Host, address: str, port: int, timeout: float = 3.0) -> tuple[str, str]:
    """Who answers a TCP connection from `host`, and the address it saw."""

    def connect() -> socket.socket:
        return socket.create_connection((address, port), timeout=timeout)

    with host.run(connect) as connection:
        name, client = connection.recv(100).decode().split(" ")
        return name, client


def ask_udp(client: socket.socket, address: str, port: int) -> str:
    """Who answers a packet from `client`."""
    client.sendto(b"?", (address, port))
    return client.recv(100).decode().split(" ")[0]


def udp_client(host: Host, timeout: float = 1.0) -> socket.socket:
    client = host.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    client.settimeout(timeout)
    return client


def eventually(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """Waits until `holds`; fails at the deadline."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.005)


async def eventually_async(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """Waits until `holds` while the loop goes on; fails at the deadline."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - what is waited for happens in the kernel, or in another thread
            await asyncio.sleep(0.005)
