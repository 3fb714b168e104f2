"""The control plane as processes on an etcd, in a folder of its own; started, frozen and killed at will."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

from controlplane.election import KEY_PREFIX
from controlplane.store.api.kv_pb2 import KeyValue
from controlplane.store.etcd import Etcd
from podwire import errors
from podwire.client import Client
from tests import freezing


class Role:
    """One process of `podwire-controlplane`; `enter` are words before its command, which bring it to another host."""

    def __init__(
        self,
        name: str,
        etcd_url: str,
        folder: Path,
        *,
        socket: Path | None = None,
        enter: Sequence[str] = (),
        flags: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.folder = folder
        self.socket = socket or folder / "api.sock"
        self._etcd_url = etcd_url
        self._enter = tuple(enter)
        self._flags = tuple(flags)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def log(self) -> str:
        return (self.folder / f"{self.name}.log").read_text()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._enter,
                sys.executable,
                "-m",
                "controlplane",
                self.name,
                f"--etcd={self._etcd_url}",
                f"--socket={self.socket}",
                f"--run-dir={self.folder}",
                *self._flags,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    async def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Ends it, and waits for its end; its exit status."""
        if self._process is None:
            return 0
        if self._process.returncode is None:
            self._process.send_signal(number)
        return await self._process.wait()

    async def wait(self) -> int:
        assert self._process is not None
        return await self._process.wait()

    def freeze(self) -> None:
        freezing.freeze(self.pid)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


class ControlPlane:
    """One process a role."""

    def __init__(self, etcd_url: str, folder: Path) -> None:
        self.etcd_url = etcd_url
        self.folder = folder
        self.api = Role("api", etcd_url, folder)
        self.scheduler = Role("scheduler", etcd_url, folder)
        self.controllers = Role("controllers", etcd_url, folder)

    @property
    def endpoint(self) -> str:
        return f"unix:{self.api.socket}"

    def client(self) -> Client:
        return Client.connect(self.endpoint)

    async def start(self) -> None:
        for role in (self.api, self.scheduler, self.controllers):
            await role.start()
        async with self.client() as client:
            await serving(client)

    async def kill(self) -> None:
        for role in (self.controllers, self.scheduler, self.api):
            await role.kill()


async def serving(client: Client) -> None:
    """The API answers; on a busy machine that takes longer than a client's patience."""
    async with asyncio.timeout(60):
        while True:
            try:
                await client.namespaces.get("default")
                return
            except (errors.Unavailable, errors.NotFound):
                continue


async def elected(etcd: Etcd, role: str) -> KeyValue:
    """The key of whoever holds the election, as soon as somebody does."""
    key = f"{KEY_PREFIX}{role}".encode()
    found = await etcd.range(key)
    if found.items:
        return found.items[0]
    async with asyncio.timeout(20), aclosing(etcd.watch(key, start_revision=found.revision + 1)) as batches:
        async for batch in batches:
            for event in batch.events:
                if event.type == event.PUT:
                    return event.kv
    raise AssertionError("a watch does not end")
