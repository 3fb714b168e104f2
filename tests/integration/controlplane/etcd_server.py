"""A real etcd in a folder of its own, on loopback ports that were free a moment ago; killed and started at will."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
from pathlib import Path

from tests import freezing


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody uses."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for held in sockets:
            held.bind(("127.0.0.1", 0))
        return [held.getsockname()[1] for held in sockets]
    finally:
        for held in sockets:
            held.close()


class EtcdServer:
    def __init__(self, folder: Path, *flags: str) -> None:
        """`flags` are further ones of etcd's own."""
        self.folder = folder
        self._flags = flags
        self._client_port, self._peer_port = free_ports(2)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._client_port}"

    async def start(self) -> None:
        """Starts it, also after `kill`, with the data it had, and waits until it listens."""
        program = shutil.which("etcd")
        assert program, "these tests need etcd: scripts/setup unpacks it"
        peer = f"http://127.0.0.1:{self._peer_port}"
        with (self.folder / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                program,
                f"--data-dir={self.folder / 'data'}",
                "--name=test",
                f"--listen-client-urls={self.url}",
                f"--advertise-client-urls={self.url}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=test={peer}",
                "--log-outputs=stderr",
                "--logger=zap",
                *self._flags,
                stdout=log,
                stderr=log,
                env={**os.environ, "GOMAXPROCS": "2"},
            )
        async with asyncio.timeout(20):
            await self._listening()

    async def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Ends it, and waits for its end."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)
            await self._process.wait()

    def freeze(self) -> None:
        """It answers nothing and closes no connection, until `thaw`."""
        assert self._process is not None
        freezing.freeze(self._process.pid)

    def thaw(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGCONT)

    async def watchers(self) -> int:
        """How many watches the server has, by its own metrics."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._client_port)
        try:
            writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
            text = (await reader.read()).decode()
        finally:
            writer.close()
        name = "etcd_debugging_mvcc_watcher_total "
        return int(float(next(line for line in text.splitlines() if line.startswith(name))[len(name) :]))

    async def _listening(self) -> None:
        assert self._process is not None
        while True:
            assert self._process.returncode is None, f"etcd ended: see {self.folder / 'log'}"
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self._client_port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            return
