"""A Kubernetes apiserver beside ours: the same calls in turns on the same machine, each server with an etcd of its own.

A figure of Kubernetes from another machine says little about this one, for what one serves in a second another does in
two. So its apiserver, a program that whoever runs this has to bring, stands here in the place of the floor: `value` is
ours, `floor` is its. It gets JSON (protobuf where it lists) over HTTP/1.1 with TLS, from the same generator, and a
token: client certificates it verifies anew for each request, which costs it 200 µs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bench import rest
from bench.api import COUNTER, IMAGE, LISTED_POD_BYTES, add_processes, create_pods, sized_pod
from bench.backends import Backends, etcd_process, free_ports, generate, process, run_generator, running_backends
from bench.closed_loop import Job, Outcome
from bench.http2 import Failed
from bench.measures import Measure, percentile
from bench.watchers import SEQUENCE_KEY
from bench.watchers import Job as WatchJob
from bench.watchers import Outcome as WatchOutcome
from podwire import v1
from podwire.client import Tls

_HOST: Final = "127.0.0.1"
_PODS_PATH: Final = "/api/v1/namespaces/default/pods"
_POD_BYTES: Final = 1024
_START_SECONDS: Final = 60.0
_CLIENTS: Final = (1, 16, 64)
_SEQUENCE: Final = "1111111111"
_WRITERS: Final = 16
_TOKEN: Final = "bench"
_REVISION: Final = re.compile(rb'"resourceVersion":"(\d+)"')


@dataclass(frozen=True, slots=True)
class _Apiserver:
    port: int
    pid: int
    etcd_pid: int
    tls: Tls

    def job(self, request: bytes, clients: int, seconds: float, **more: Any) -> Job:
        return Job(
            port=self.port,
            ca=str(self.tls.ca),
            cert=str(self.tls.cert),
            key=str(self.tls.key),
            path="",
            body=request.hex(),
            clients=clients,
            seconds=seconds,
            warm_up_seconds=seconds / 4,
            answer_bytes=(1, 1 << 30),
            pids={"server": self.pid, "etcd": self.etcd_pid},
            rest=True,
            **more,
        )


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--apiserver", type=Path, required=True, help="the program kube-apiserver", metavar="PATH")
    parser.add_argument("--pods", type=int, default=5_000, help="how many are listed and watched (%(default)s)")
    parser.add_argument("--watchers", type=int, default=500, help="as fast as it goes (%(default)s)")
    parser.add_argument("--calm-watchers", type=int, default=100, help="at a fixed rate (%(default)s)")
    parser.add_argument("--rate", type=float, default=200.0, help="updates a second for them (%(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each round (%(default)s)")
    add_processes(parser)


async def kubernetes(options: argparse.Namespace) -> AsyncIterator[Measure]:
    async with running_backends(options.processes) as ours, _running(options.apiserver, ours.tls) as theirs:
        async for measure in _gets(options, ours, theirs):
            yield measure
        await create_pods(ours, options.pods)
        await _create_pods(theirs, options.pods)
        for measures in (_lists, _watches, _creates):
            async for measure in measures(options, ours, theirs):
                yield measure


async def _gets(options: argparse.Namespace, ours: Backends, theirs: _Apiserver) -> AsyncIterator[Measure]:
    async with ours.client() as client:
        await client.pods.create(sized_pod("pod"))
    await _ask(theirs.port, theirs.tls, _post(_tree("pod")))
    for read, version in (("cached", "any"), ("linearizable", "")):
        body = v1.GetRequest(namespace="default", name="pod", resource_version=version).SerializeToString()
        request = _request("GET", f"{_PODS_PATH}/pod" + ("?resourceVersion=0" if version else ""))
        for clients in _CLIENTS:
            own = ours.job(ours.api, "/podwire.v1.Pods/Get", body, clients, options.seconds, answer_bytes=(1, 1 << 20))
            outcomes = await generate(own), await generate(theirs.job(request, clients, options.seconds))
            yield _rate("kubernetes_get", {"read": read, "clients": clients}, *outcomes)


async def _creates(options: argparse.Namespace, ours: Backends, theirs: _Apiserver) -> AsyncIterator[Measure]:
    body = v1.PodCreateRequest(object=sized_pod(f"new-{COUNTER}")).SerializeToString()
    request = _post(_tree(f"new-{COUNTER}"))
    number = 0
    for clients in _CLIENTS:
        own = ours.job(
            ours.api,
            "/podwire.v1.Pods/Create",
            body,
            clients,
            options.seconds,
            counter_at=body.index(COUNTER.encode()),
            counter_from=number,
            answer_bytes=(1, 1 << 20),
        )
        at = request.index(COUNTER.encode())
        other = theirs.job(request, clients, options.seconds, counter_at=at, counter_from=number)
        outcomes = await generate(own), await generate(other)
        number = max(outcome.counter for outcome in outcomes)
        yield _rate("kubernetes_create", {"kind": "Pod", "clients": clients}, *outcomes)


async def _lists(options: argparse.Namespace, ours: Backends, theirs: _Apiserver) -> AsyncIterator[Measure]:
    body = v1.ListRequest(resource_version="any").SerializeToString()
    own = ours.job(ours.api, "/podwire.v1.Pods/List", body, 1, options.seconds, answer_bytes=(1, 1 << 30), pages=True)
    request = _request("GET", f"{_PODS_PATH}?resourceVersion=0", accept="application/vnd.kubernetes.protobuf")
    outcome, other = await generate(own), await generate(theirs.job(request, 1, options.seconds))
    params = {"pods": options.pods, "bytes": outcome.answer_bytes, "kubernetes_bytes": other.answer_bytes}
    floor = percentile(other.milliseconds, 0.5)
    yield Measure("kubernetes_list", "ms", params | _used(outcome, other), floor=floor, samples=outcome.milliseconds)


async def _watches(options: argparse.Namespace, ours: Backends, theirs: _Apiserver) -> AsyncIterator[Measure]:
    jobs = await _update_jobs(options, ours, theirs)
    calm = [replace(job, watchers=options.calm_watchers, rate=options.rate) for job in jobs]
    latency, slower = [await _watch(job) for job in calm]
    params = _events(latency, slower) | {"kubernetes_p99": round(percentile(slower.milliseconds, 0.99), 3)}
    floor = percentile(slower.milliseconds, 0.5)
    yield Measure("kubernetes_watch_latency", "ms", params, floor=floor, samples=latency.milliseconds)
    jobs = await _update_jobs(options, ours, theirs)
    fast = [replace(job, watchers=options.watchers, sequence_from=2_000_000_000) for job in jobs]
    rate, slower = [await _watch(job) for job in fast]
    params = _events(rate, slower) | {"p99_ms": round(percentile(rate.milliseconds, 0.99), 1)}
    params["kubernetes_p99_ms"] = round(percentile(slower.milliseconds, 0.99), 1)
    floor = slower.events / slower.seconds
    yield Measure("kubernetes_watch_rate", "events/s", params, floor=floor, value=rate.events / rate.seconds)
    memory = slower.resident_mib["server"]
    yield Measure("kubernetes_memory", "MiB", {}, floor=memory, value=rate.resident_mib["server"])


async def _update_jobs(options: argparse.Namespace, ours: Backends, theirs: _Apiserver) -> list[WatchJob]:
    """Ours and theirs, to watch what comes from now on."""
    pod = sized_pod(f"pod-{COUNTER}", size=LISTED_POD_BYTES)
    pod.metadata.annotations[SEQUENCE_KEY] = _SEQUENCE
    own = v1.PodUpdateRequest(object=pod).SerializeToString()
    tree = _tree(f"pod-{COUNTER}", LISTED_POD_BYTES)
    tree["metadata"]["annotations"][SEQUENCE_KEY] = _SEQUENCE
    other = _request("PUT", f"{_PODS_PATH}/pod-{COUNTER}", _encode(tree))
    watch = _request("GET", f"{_PODS_PATH}?watch=1&resourceVersion={await _revision(theirs)}")
    job = WatchJob(
        port=ours.api.port,
        ca=str(ours.tls.ca),
        cert=str(ours.tls.cert),
        key=str(ours.tls.key),
        watch_path="/podwire.v1.Pods/Watch",
        watch_body=v1.WatchRequest().SerializeToString().hex(),
        watchers=0,
        update_path="/podwire.v1.Pods/Update",
        update_body=own.hex(),
        sequence_at=own.index(_SEQUENCE.encode()),
        sequence_from=1_000_000_000,
        object_at=_all(own, COUNTER.encode()),
        objects=options.pods,
        writers=_WRITERS,
        rate=0.0,
        ahead=256,
        seconds=options.seconds * 2,
        warm_up_seconds=options.seconds / 2,
        pids={"server": ours.api.pid, "etcd": ours.etcd_pid},
    )
    return [
        job,
        replace(
            job,
            port=theirs.port,
            watch_body=watch.hex(),
            update_body=other.hex(),
            sequence_at=other.index(_SEQUENCE.encode()),
            object_at=_all(other, COUNTER.encode()),
            pids={"server": theirs.pid, "etcd": theirs.etcd_pid},
            rest=True,
        ),
    ]


async def _watch(job: WatchJob) -> WatchOutcome:
    return WatchOutcome(**json.loads(await run_generator("bench.watchers", json.dumps(asdict(job)))))


async def _create_pods(theirs: _Apiserver, pods: int) -> None:
    free = asyncio.Semaphore(_WRITERS)

    async def create(number: int) -> None:
        async with free:
            await _ask(theirs.port, theirs.tls, _post(_tree(f"pod-{number:0{len(COUNTER)}d}", LISTED_POD_BYTES)))

    async with asyncio.TaskGroup() as owner:
        for number in range(pods):
            owner.create_task(create(number), name=f"create pod {number}")


@asynccontextmanager
async def _running(program: Path, tls: Tls) -> AsyncIterator[_Apiserver]:
    async with AsyncExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="podwire-bench-kubernetes-")))
        port, etcd_port, peer_port = free_ports(3)
        url = f"http://{_HOST}:{etcd_port}"
        etcd = await undo.enter_async_context(etcd_process(folder, url, f"http://{_HOST}:{peer_port}"))
        # Tokens of service accounts, which nobody has here, but it does not start without.
        signing = rsa.generate_private_key(public_exponent=65_537, key_size=2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        (folder / "signing.key").write_bytes(signing)
        (folder / "tokens.csv").write_text(f"{_TOKEN},bench,bench,system:masters\n")
        arguments = {
            "etcd-servers": url,
            "bind-address": _HOST,
            "advertise-address": _HOST,
            "secure-port": port,
            "tls-cert-file": tls.cert,
            "tls-private-key-file": tls.key,
            "token-auth-file": folder / "tokens.csv",
            "authorization-mode": "AlwaysAllow",
            "disable-admission-plugins": "ServiceAccount",
            "service-cluster-ip-range": "10.96.0.0/16",
            "service-account-issuer": "https://bench",
            "service-account-signing-key-file": folder / "signing.key",
            "service-account-key-file": folder / "signing.key",
            "cert-dir": folder,
        }
        command = [str(program), *(f"--{name}={value}" for name, value in arguments.items())]
        server = await undo.enter_async_context(process(folder / "apiserver.log", command))
        await _serving(server, port, tls)
        yield _Apiserver(port, server.pid, etcd.pid, tls)


async def _serving(server: asyncio.subprocess.Process, port: int, tls: Tls) -> None:
    """Until the namespace that pods are made in is there."""
    async with asyncio.timeout(_START_SECONDS):
        while True:
            if server.returncode is not None:
                raise SystemExit(f"kube-apiserver ended with status {server.returncode} before it served")
            try:
                await _ask(port, tls, _request("GET", "/api/v1/namespaces/default"))
                return
            except (OSError, Failed):
                await asyncio.sleep(0.2)


async def _ask(port: int, tls: Tls, request: bytes) -> bytes:
    """The answer as it comes, with its head; for what is not measured."""
    context = rest.context(tls.ca)
    reader, writer = await asyncio.open_connection(_HOST, port, ssl=context)
    try:
        writer.write(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        answer = await reader.read(-1)
    finally:
        writer.close()
    if not answer.startswith(b"HTTP/1.1 2"):
        raise Failed(f"an answer is no success: {answer!r}")
    return answer


async def _revision(theirs: _Apiserver) -> str:
    """A list's metadata comes before its items."""
    listed = await _ask(theirs.port, theirs.tls, _request("GET", f"{_PODS_PATH}?limit=1"))
    found = _REVISION.search(listed)
    if found is None:
        raise Failed("a list has no revision")
    return found[1].decode()


def _request(method: str, path: str, body: bytes = b"", accept: str = "application/json") -> bytes:
    headers = {
        "Host": _HOST,
        "Authorization": f"Bearer {_TOKEN}",
        "Accept": accept,
        "Content-Type": "application/json",
        "Content-Length": len(body),
    }
    lines = (f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", "")
    return "\r\n".join(lines).encode() + body


def _post(tree: Mapping[str, Any]) -> bytes:
    return _request("POST", _PODS_PATH, _encode(tree))


def _tree(name: str, size: int = _POD_BYTES) -> dict[str, Any]:
    """The pod of the other benchmarks as JSON, which has as many bytes as theirs has as protobuf."""
    container = {
        "name": "main",
        "image": IMAGE,
        "command": ["/bin/sleep", "3600"],
        "ports": [{"name": "http", "containerPort": 8080}],
        "env": [{"name": "ROLE", "value": "bench"}],
    }
    metadata: dict[str, Any] = {"name": name, "labels": {"app": "bench", "tier": "load"}, "annotations": {}}
    tree = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}
    metadata["annotations"]["bench/filling"] = ""
    metadata["annotations"]["bench/filling"] = "x" * (size - len(_encode(tree)))
    return tree


def _encode(tree: Mapping[str, Any]) -> bytes:
    return json.dumps(tree, separators=(",", ":")).encode()


def _all(data: bytes, wanted: bytes) -> list[int]:
    return [found.start() for found in re.finditer(re.escape(wanted), data)]


def _rate(name: str, params: Mapping[str, object], own: Outcome, other: Outcome) -> Measure:
    params = {**params, **_used(own, other)}
    return Measure(
        name,
        "calls/s",
        params,
        floor=len(other.milliseconds) / other.seconds,
        value=len(own.milliseconds) / own.seconds,
    )


def _used(own: Outcome, other: Outcome) -> dict[str, object]:
    """CPU microseconds a call."""
    used: dict[str, object] = {}
    for prefix, outcome in (("", own), ("kubernetes_", other)):
        for name, seconds in outcome.cpu_seconds.items():
            used[f"{prefix}{name}_us"] = round(seconds * 1e6 / len(outcome.milliseconds), 1)
    return used


def _events(own: WatchOutcome, other: WatchOutcome) -> dict[str, object]:
    """CPU microseconds a delivered event."""
    used: dict[str, object] = {}
    for prefix, outcome in (("", own), ("kubernetes_", other)):
        used[f"{prefix}updates_per_s"] = round(outcome.updates / outcome.seconds, 1)
        for name, seconds in outcome.cpu_seconds.items():
            used[f"{prefix}{name}_us"] = round(seconds * 1e6 / outcome.events, 2)
    return used
