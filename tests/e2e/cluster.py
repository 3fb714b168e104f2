"""A lab driven as its user drives it: `podwire-lab`, `podctl`, the client, curl on a host; and waiting by watching."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.plan import Host, Plan
from podwire import v1
from podwire.client import Client

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Output:
    code: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[str]:
        return self.stdout.splitlines()

    @property
    def rows(self) -> list[list[str]]:
        """Of a table with a header line: the fields of the lines below it."""
        return [line.split() for line in self.lines[1:]]


async def run(argv: Sequence[str | Path], *, stdin: str = "", check: bool = True, timeout: float = 120) -> Output:
    process = await asyncio.create_subprocess_exec(
        *argv,
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(timeout):
            stdout, stderr = await process.communicate(stdin.encode())
    except TimeoutError:
        process.kill()
        await process.wait()
        raise AssertionError(f"{' '.join(map(str, argv))} did not end within {timeout:g} s") from None
    output = Output(process.returncode or 0, stdout.decode(), stderr.decode())
    assert not check or output.code == 0, f"{' '.join(map(str, argv))}: {output}"
    return output


class Cluster:
    """The lab as its user has it."""

    def __init__(self, plan: Plan, client: Client) -> None:
        self.plan = plan
        self.client = client

    @property
    def nodes(self) -> list[str]:
        return [host.name for host in self.plan.node_hosts]

    def host(self, name: str) -> Host:
        return self.plan.host(name)

    async def lab(self, *args: str, check: bool = True) -> Output:
        return await run([sys.executable, "-m", "lab", *args], check=check)

    async def on(self, host: str, *command: str, check: bool = True, timeout: float = 60) -> Output:
        """Runs a command in a host's network."""
        netns = self.host(host).netns
        return await run(["nsenter", f"--net={netns}", "--", *command], check=check, timeout=timeout)

    async def podctl(self, *args: str, stdin: str = "", check: bool = True, timeout: float = 120) -> Output:
        config = ["--config", str(self.plan.client_config)]
        return await run([sys.executable, "-m", "podctl", *config, *args], stdin=stdin, check=check, timeout=timeout)

    async def get_url(self, url: str, *, host: str = "client", timeout: float = 2) -> tuple[int, str]:
        """The status (0: no answer) and the body of a GET by curl on `host`."""
        curl = ["curl", "--silent", "--noproxy", "*", "--max-time", f"{timeout:g}", "--write-out", "\n%{http_code}"]
        output = await self.on(host, *curl, url, check=False)
        body, _, code = output.stdout.rpartition("\n")
        return int(code or 0), body


class Space:
    """A namespace for one test, with `podctl -n` bound to it."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.client = cluster.client
        self.name = name

    async def podctl(self, *args: str, stdin: str = "", check: bool = True, timeout: float = 120) -> Output:
        return await self.cluster.podctl("-n", self.name, *args, stdin=stdin, check=check, timeout=timeout)

    async def apply(self, manifest: str) -> Output:
        return await self.podctl("apply", "-f", "-", stdin=manifest)

    async def pods(self, label_selector: str = "") -> list[v1.Pod]:
        return (await self.client.pods.list(namespace=self.name, label_selector=label_selector)).items

    async def pod(self, name: str) -> v1.Pod:
        return await self.client.pods.get(name, namespace=self.name)

    async def wait_for_pod(self, name: str, holds: Callable[[v1.Pod], bool], *, timeout: float = 60) -> v1.Pod:
        """The pod as soon as `holds`, by watching it."""
        last: v1.Pod | None = None
        try:
            async with asyncio.timeout(timeout):
                watch = self.client.pods.watch(
                    namespace=self.name, field_selector=f"metadata.name={name}", send_initial_events=True
                )
                async with aclosing(watch) as events:
                    async for event in events:
                        if event.type in ("ADDED", "MODIFIED"):
                            last = event.object
                            if holds(event.object):
                                return event.object
        except TimeoutError:
            raise AssertionError(f"pod {name} did not get there within {timeout:g} s; it is\n{last}") from None
        raise AssertionError("the watch ended")

    async def wait_for_pods(
        self, holds: Callable[[list[v1.Pod]], bool], *, label_selector: str = "", timeout: float = 60
    ) -> list[v1.Pod]:
        """All pods of a selector as soon as `holds` of them together."""
        pods: dict[str, v1.Pod] = {}
        try:
            async with asyncio.timeout(timeout):
                watch = self.client.pods.watch(
                    namespace=self.name, label_selector=label_selector, send_initial_events=True
                )
                async with aclosing(watch) as events:
                    async for event in events:
                        if event.type == "DELETED":
                            pods.pop(event.object.metadata.name, None)
                        elif event.type != "BOOKMARK":
                            pods[event.object.metadata.name] = event.object
                        # The bookmark after what is there already counts too: that may be nothing.
                        if holds(list(pods.values())):
                            return list(pods.values())
        except TimeoutError:
            shown = "\n".join(map(str, pods.values()))
            raise AssertionError(f"the pods did not get there within {timeout:g} s; they are\n{shown}") from None
        raise AssertionError("the watch ended")

    async def wait_for_endpoints(self, service: str, wanted: set[str], *, timeout: float = 30) -> None:
        """Until exactly the pods of these names are ready endpoints, and every node's proxy had a moment to follow."""
        ready: set[str] = set()

        async def is_there() -> bool:
            nonlocal ready
            slices = await self.client.endpoint_slices.list(
                namespace=self.name, label_selector=f"kubernetes.io/service-name={service}"
            )
            endpoints = [endpoint for piece in slices.items for endpoint in piece.endpoints]
            ready = {endpoint.target_ref.name for endpoint in endpoints if endpoint.conditions.ready}
            return ready == wanted

        await eventually(is_there, f"{service} has the endpoints {wanted}, not {ready}", timeout=timeout)


def is_ready(pod: v1.Pod) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions)


def restarts(pod: v1.Pod) -> int:
    return sum(status.restart_count for status in pod.status.container_statuses)


async def eventually(check: Callable[[], Awaitable[bool]], what: str, *, timeout: float = 30) -> None:
    """Waits until `check` holds, for things that send no event; each try is a program's run, which paces it."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while not await check():
        assert loop.time() < deadline, f"not within {timeout:g} s: {what}"


def tree(output: Output) -> Any:
    """What `-o json` printed."""
    return json.loads(output.stdout)
