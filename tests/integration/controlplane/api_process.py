"""A replica as a process of its own, whose memory can be measured, and many pods for it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from controlplane.store import keys, wire
from controlplane.store import operations as op
from controlplane.store.etcd import Etcd
from podwire import errors, kinds, v1
from podwire.client import Client
from podwire.keys import key_of
from tests.integration.controlplane.etcd_server import free_ports
from tests.integration.controlplane.replica import pod

_MIB = 1024 * 1024
# etcd's 128 operations a transaction, with room.
_PUTS = 100


class ApiProcess:
    def __init__(self, etcd_url: str, folder: Path, *options: str, metrics_port: int = 0) -> None:
        """Its metrics are at `metrics_port`, or at any that is free."""
        self.folder = folder
        self.socket = folder / "api.sock"
        self._etcd_url = etcd_url
        self._options = options
        self._wanted_metrics_port = metrics_port
        self._metrics_port = 0
        self._process: asyncio.subprocess.Process | None = None

    @property
    def endpoint(self) -> str:
        return f"unix:{self.socket}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def log(self) -> str:
        return (self.folder / "api.log").read_text()

    async def start(self) -> None:
        self._metrics_port = self._wanted_metrics_port or free_ports(1)[0]
        with (self.folder / "api.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "controlplane",
                "api",
                f"--etcd={self._etcd_url}",
                f"--socket={self.socket}",
                f"--run-dir={self.folder}",
                f"--metrics=127.0.0.1:{self._metrics_port}",
                *self._options,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    async def wait_serving(self) -> None:
        async with asyncio.timeout(60), Client.connect(self.endpoint) as client:
            while True:
                try:
                    await client.namespaces.get("default")
                    return
                except errors.Unavailable:
                    assert self.running, self.log

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def kill(self, number: signal.Signals = signal.SIGKILL) -> int | None:
        """Its exit status, also where it had ended before."""
        if self._process is None:
            return None
        if self._process.returncode is None:
            self._process.send_signal(number)
            await self._process.wait()
        return self._process.returncode

    def memory(self, field: str = "VmRSS") -> float:
        """MiB: what it has now (VmRSS), or the most it ever had (VmHWM)."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith(field))
        return int(line.split()[1]) / 1024

    async def metric(self, name: str, process: int = 0) -> float:
        """The value of a metric, as `podwire_calls_total{method="podwire.v1.Pods/List"}`; 0 where it is not there.

        `process` is which of several is asked.
        """
        reader, writer = await asyncio.open_connection("127.0.0.1", self._metrics_port + process)
        try:
            writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
            lines = (await reader.read()).decode().splitlines()
        finally:
            writer.close()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == name)


@asynccontextmanager
async def api_process(etcd_url: str, *options: str) -> AsyncIterator[ApiProcess]:
    # A path of a socket has at most 107 characters; pytest's folders can be longer.
    with tempfile.TemporaryDirectory(prefix="podwire-") as folder:
        process = ApiProcess(etcd_url, Path(folder), *options)
        await process.start()
        try:
            await process.wait_serving()
            yield process
        finally:
            await process.kill(signal.SIGTERM)


async def store_pods(etcd: Etcd, count: int, *, size: int = 1_000, first: int = 0) -> None:
    """Pods of about `size` bytes, straight into etcd: the API would take longer than the tests that need them."""
    puts = []
    for number in range(first, first + count):
        made = pod(f"p{number:05}", labels={"app": f"a{number % 50}"})
        made.metadata.uid = f"uid-{number}"
        made.metadata.annotations["filler"] = "x" * max(size - 150, 0)
        puts.append(op.put(keys.object_key(kinds.POD, key_of(made)), wire.encode(made)))
    for start in range(0, len(puts), _PUTS):
        await etcd.txn([], puts[start : start + _PUTS])


def config_map_of(name: str, namespace: str, size: int) -> v1.ConfigMap:
    made = v1.ConfigMap(metadata=v1.ObjectMeta(name=name, namespace=namespace))
    made.data["data"] = "x" * size
    return made
