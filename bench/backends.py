"""What the API's benchmarks run against: an etcd, a server, and a bare server for the floors, in a folder of their own.

All are processes of their own on loopback, with TLS and client certificates where a client meets them, and all end with
the benchmark.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio

from bench.bare_server import SERVICE as BARE_SERVICE
from bench.closed_loop import Job, Outcome
from lab.certificates import Authority
from podwire import errors
from podwire.client import Client, Tls

_HOST: Final = "127.0.0.1"
_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Server:
    """A process that serves gRPC on a loopback port, alone or through its children."""

    port: int
    pid: int


@dataclass(frozen=True, slots=True)
class Backends:
    api: Server
    # The floors: see bench.bare_server.
    bare: Server
    etcd_pid: int
    tls: Tls

    def client(self) -> Client:
        """A client of the API, for what is not measured."""
        return Client.connect(f"{_HOST}:{self.api.port}", tls=self.tls)

    async def set_answer(self, answer: bytes) -> None:
        """What the bare server answers from now on."""
        files = (self.tls.ca, self.tls.key, self.tls.cert)
        credentials = grpc.ssl_channel_credentials(*(file.read_bytes() for file in files))
        async with grpc.aio.secure_channel(f"{_HOST}:{self.bare.port}", credentials) as channel:
            call: Any = channel.unary_unary(bare_method("SetAnswer"))
            await call(answer, wait_for_ready=True, timeout=_START_SECONDS)

    def job(self, server: Server, path: str, body: bytes, clients: int, seconds: float, **more: object) -> Job:
        pids = {"server": server.pid, "etcd": self.etcd_pid}
        settings: dict[str, object] = {
            "port": server.port,
            "ca": str(self.tls.ca),
            "cert": str(self.tls.cert),
            "key": str(self.tls.key),
            "path": path,
            "body": body.hex(),
            "clients": clients,
            "seconds": seconds,
            "warm_up_seconds": seconds / 4,
            "pids": pids,
        }
        return Job(**{**settings, **more})  # type: ignore[arg-type]


def bare_method(name: str) -> str:
    return f"/{BARE_SERVICE}/{name}"


@asynccontextmanager
async def running_backends(processes: int = 1) -> AsyncIterator[Backends]:
    """`processes` is how many serve the API; the floors are of one."""
    async with AsyncExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="podwire-bench-")))
        tls = certificates(folder / "tls")
        etcd_port, peer_port, bare_port = free_ports(3)
        # Where several serve it, each has a port above it of its own.
        api_port = free_port_run(1 + processes)
        etcd_url = f"http://{_HOST}:{etcd_port}"
        etcd = await undo.enter_async_context(etcd_process(folder, etcd_url, f"http://{_HOST}:{peer_port}"))
        served = [
            f"--etcd={etcd_url}",
            f"--tls-ca={tls.ca}",
            f"--tls-cert={tls.cert}",
            f"--tls-key={tls.key}",
        ]
        api = await undo.enter_async_context(
            process(
                folder / "api.log",
                [
                    *module("controlplane", "api"),
                    *served,
                    f"--listen={_HOST}:{api_port}",
                    f"--processes={processes}",
                    f"--run-dir={folder / 'run'}",
                ],
            )
        )
        bare = await undo.enter_async_context(
            process(folder / "bare.log", [*module("bench.bare_server"), *served, f"--port={bare_port}"])
        )
        backends = Backends(Server(api_port, api.pid), Server(bare_port, bare.pid), etcd.pid, tls)
        await listening(bare, bare_port)
        if processes > 1:
            for number in range(processes):
                await listening(api, api_port + 1 + number)
        await _serving(backends, api)
        yield backends


async def generate(job: Job) -> Outcome:
    """Runs the load generator in a process of its own."""
    return Outcome(**json.loads(await run_generator("bench.closed_loop", json.dumps(asdict(job)))))


async def run_generator(name: str, job: str) -> bytes:
    """The output of a generator's process that is given `job` as its input; SystemExit where it fails."""
    pipe = asyncio.subprocess.PIPE
    generator = await asyncio.create_subprocess_exec(*module(name), stdin=pipe, stdout=pipe)
    try:
        output, _ = await generator.communicate(job.encode())
    finally:
        if generator.returncode is None:
            generator.kill()
            await generator.wait()
    if generator.returncode != 0:
        raise SystemExit(f"{name} failed with status {generator.returncode}")
    return output


def module(name: str, *arguments: str) -> list[str]:
    """The command that runs a module with this Python."""
    return [sys.executable, "-m", name, *arguments]


@asynccontextmanager
async def process(log: Path, arguments: Sequence[str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process for as long as the context lasts; its log is shown where the benchmark fails."""
    with log.open("wb") as out:
        started = await asyncio.create_subprocess_exec(*arguments, stdout=out, stderr=out)
    try:
        yield started
    except (Exception, SystemExit):
        print(_tail(log), file=sys.stderr)
        raise
    finally:
        if started.returncode is None:
            started.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await started.wait()
            except TimeoutError:
                started.kill()
                await started.wait()


@asynccontextmanager
async def etcd_process(folder: Path, url: str, peer: str) -> AsyncIterator[asyncio.subprocess.Process]:
    program = shutil.which("etcd")
    if program is None:
        raise SystemExit("there is no etcd: scripts/setup unpacks one")
    arguments = [
        program,
        f"--data-dir={folder / 'etcd'}",
        "--name=bench",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=bench={peer}",
        "--logger=zap",
        "--log-outputs=stderr",
    ]
    async with process(folder / "etcd.log", arguments) as etcd:
        await listening(etcd, int(url.rpartition(":")[2]))
        yield etcd


async def listening(server: asyncio.subprocess.Process, port: int) -> None:
    """Until `port` takes connections; SystemExit where the process ends before."""
    async with asyncio.timeout(_START_SECONDS):
        while True:
            if server.returncode is not None:
                raise SystemExit(f"a server ended with status {server.returncode} before it listened")
            try:
                _, writer = await asyncio.open_connection(_HOST, port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            return


def _tail(log: Path) -> str:
    return f"--- {log.name}\n{log.read_text()[-4000:]}"


async def _serving(backends: Backends, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(_START_SECONDS), backends.client() as client:
        while True:
            if process.returncode is not None:
                raise SystemExit(f"the server ended with status {process.returncode} before it served")
            try:
                await client.namespaces.get("default")
                return
            except errors.Unavailable:
                await asyncio.sleep(0.05)


def certificates(folder: Path) -> Tls:
    """One certificate for both ends: nothing here depends on who is who."""
    now = datetime.now(UTC)
    authority = Authority.in_folder(folder, name="podwire-bench", now=now)
    authority.issue(
        "bench",
        organization="podwire:administrators",
        addresses=[IPv4Address(_HOST)],
        names=["localhost"],
        now=now,
    )
    return Tls(folder / "ca.crt", folder / "bench.crt", folder / "bench.key")


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody uses."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for held in sockets:
            held.bind((_HOST, 0))
        return [held.getsockname()[1] for held in sockets]
    finally:
        for held in sockets:
            held.close()


def free_port_run(count: int) -> int:
    """The first of `count` ports in a row that nobody uses, below those that outgoing connections are given."""
    while True:
        first = random.randrange(20_000, 30_000)
        sockets = [socket.socket() for _ in range(count)]
        try:
            for offset, held in enumerate(sockets):
                held.bind((_HOST, first + offset))
            return first
        except OSError:
            continue
        finally:
            for held in sockets:
                held.close()
