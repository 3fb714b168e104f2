"""Many agents in one process, each with a connection of its own.

`python -m bench.simulated_agents COUNT ENDPOINT CERTIFICATES`

They speak the agent's side of the API, and nothing runs: a session with heartbeats, the watches that an agent has, and
for every pod of the node the status of one that is ready. Only the node's own pods are decoded; of the other watches
the bytes are read and dropped, so that this process leaves the machine to the one that is measured. With `--bare` there
are heartbeats alone: the floor.

Prints `connected` when all have their sessions and watches, then `ready N` whenever another thousand statuses, or as
many as `--pods` says, are stored.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, NoReturn

import grpc.aio
import uvloop

from podwire import v1
from podwire.client import Client, Informer, Tls

_HEARTBEAT_SECONDS: Final = 1.0
"""The agents' default."""
_AGAIN_SECONDS: Final = 0.2
"""Before what broke is opened again, as the agents do."""
_WATCHED: Final = ("Nodes", "Services", "EndpointSlices")
SESSION: Final = "/podwire.v1.Agents/Session"


def node_name(number: int) -> str:
    return f"agent-{number:05}"


class Counter:
    """Stored statuses of all agents."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._stored = 0

    def add(self, statuses: int) -> None:
        self._stored += statuses
        if self._stored == self._wanted or self._stored // 1000 > (self._stored - statuses) // 1000:
            print(f"ready {self._stored}", flush=True)


class _Outgoing:
    """The statuses that a session has to send, by the pod's uid."""

    def __init__(self) -> None:
        self.updates: dict[str, v1.PodStatusUpdate] = {}
        self.due = asyncio.Event()


class SimulatedAgent:
    def __init__(self, name: str, client: Client, counter: Counter, *, bare: bool) -> None:
        self.name = name
        self._bare = bare
        self._client = client
        self._counter = counter
        self._pods: Informer[v1.Pod] = Informer(client.pods, field_selector=f"spec.nodeName={self.name}")
        self._pods.add_handler(self._changed)
        self._outgoing = _Outgoing()
        self.connected = asyncio.Event()

    async def run(self) -> NoReturn:
        if self._bare:
            await self._session()
        resources = {"cpu": v1.Quantity(string="64"), "memory": v1.Quantity(string="256Gi")}
        ready = v1.NodeCondition(type="Ready", status="True")
        status = v1.NodeStatus(allocatable=resources, conditions=[ready])
        await self._client.nodes.create(v1.Node(metadata=v1.ObjectMeta(name=self.name), status=status))
        async with asyncio.TaskGroup() as owner:
            owner.create_task(self._session(), name=f"session of {self.name}")
            owner.create_task(self._pods.run(), name=f"pods of {self.name}")
            for service in _WATCHED:
                owner.create_task(self._read_and_drop(service), name=f"{service} for {self.name}")
        raise AssertionError("an agent does not end")

    async def _session(self) -> NoReturn:
        lease_id = 0
        while True:
            # Of its own: gRPC reads on from the last session's messages for a moment after that has ended.
            self._outgoing = _Outgoing()
            call = self._client.channel.stream_stream(
                SESSION,
                request_serializer=v1.AgentMessage.SerializeToString,
                response_deserializer=v1.ControlMessage.FromString,
            )(self._messages(lease_id, self._outgoing))
            try:
                async for message in call:
                    match message.WhichOneof("message"):
                        case "welcome":
                            lease_id = message.welcome.lease_id
                            if not self._bare:
                                await self._pods.wait_synced()
                            self.connected.set()
                            # What the last session had on its way may be lost.
                            for pod in self._pods.values():
                                self._changed("", None, pod)
                        case "statuses":
                            self._counter.add(sum(not result.reason for result in message.statuses.results))
            except grpc.aio.AioRpcError as error:
                print(f"session of {self.name} lost: {error.details()}", file=sys.stderr)
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _messages(self, lease_id: int, outgoing: _Outgoing) -> AsyncIterator[v1.AgentMessage]:
        yield v1.AgentMessage(hello=v1.Hello(node_name=self.name, instance=self.name, lease_id=lease_id))
        loop = asyncio.get_running_loop()
        next_beat = loop.time()
        while True:
            try:
                async with asyncio.timeout_at(next_beat):
                    await outgoing.due.wait()
            except TimeoutError:
                next_beat += _HEARTBEAT_SECONDS
                yield v1.AgentMessage(heartbeat=v1.Heartbeat())
                continue
            outgoing.due.clear()
            updates, outgoing.updates = outgoing.updates, {}
            yield v1.AgentMessage(statuses=v1.StatusBatch(updates=updates.values()))

    async def _read_and_drop(self, service: str) -> NoReturn:
        watch: Any = self._client.channel.unary_stream(
            f"/podwire.v1.{service}/Watch", request_serializer=v1.WatchRequest.SerializeToString
        )
        while True:
            try:
                async for _ in watch(v1.WatchRequest(send_initial_events=True)):
                    pass
            except grpc.aio.AioRpcError as error:
                print(f"watch of {service} for {self.name} lost: {error.details()}", file=sys.stderr)
            await asyncio.sleep(_AGAIN_SECONDS)

    def _changed(self, key: str, old: v1.Pod | None, new: v1.Pod | None) -> None:
        if new is None or new.status.phase == "Running":
            return
        meta = new.metadata
        status = v1.PodStatus(
            phase="Running", pod_ip="198.51.100.1", conditions=[v1.PodCondition(type="Ready", status="True")]
        )
        update = v1.PodStatusUpdate(namespace=meta.namespace, name=meta.name, uid=meta.uid, status=status)
        self._outgoing.updates[meta.uid] = update
        self._outgoing.due.set()


async def run(count: int, endpoint: str, certificates: Path, statuses: int, *, bare: bool) -> None:
    counter = Counter(statuses)
    async with asyncio.TaskGroup() as owner:
        for number in range(count):
            name = node_name(number)
            tls = Tls(certificates / "ca.crt", certificates / f"{name}.crt", certificates / f"{name}.key")
            agent = SimulatedAgent(name, Client.connect(endpoint, tls=tls), counter, bare=bare)
            owner.create_task(agent.run(), name=agent.name)
            # One after another: a thousand handshakes at once would only wait for each other.
            await agent.connected.wait()
        print("connected", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.simulated_agents")
    parser.add_argument("count", type=int)
    parser.add_argument("endpoint")
    parser.add_argument("certificates", type=Path, help="the folder with ca.crt and a pair for each agent's name")
    parser.add_argument("--pods", type=int, default=0, help="say so when that many statuses are stored")
    parser.add_argument("--bare", action="store_true", help="heartbeats alone, against bench.bare_sessions")
    options = parser.parse_args()
    uvloop.run(run(options.count, options.endpoint, options.certificates, options.pods, bare=options.bare))


if __name__ == "__main__":
    main()
