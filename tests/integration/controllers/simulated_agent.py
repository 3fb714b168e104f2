"""The agent's side of the API without containers: a node, its session, and pods that are Running when it says so.

What the real agent does with containerd takes seconds and root; the control plane cannot tell the difference.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NoReturn

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp

from podwire import errors, v1
from podwire.client import Client, Informer
from podwire.keys import key_of
from podwire.v1.agents_pb2_grpc import AgentsStub


def starts_everything(pod: v1.Pod) -> bool:
    return True


class SimulatedAgent:
    def __init__(
        self,
        client: Client,
        node_name: str,
        *,
        cpu: str = "4",
        labels: dict[str, str] | None = None,
        is_ready: Callable[[v1.Pod], bool] = starts_everything,
    ) -> None:
        self.node_name = node_name
        # Whether a pod's readiness probe passes; `look_again` after it has come to say something else.
        self.is_ready = is_ready
        self._client = client
        self._node = v1.Node(
            metadata=v1.ObjectMeta(name=node_name, labels=labels or {}),
            status=v1.NodeStatus(
                allocatable={"cpu": v1.Quantity(string=cpu), "memory": v1.Quantity(string="8Gi")},
                conditions=[v1.NodeCondition(type="Ready", status="True")],
            ),
        )
        self._pods = Informer(client.pods, field_selector=f"spec.nodeName={node_name}")
        self._keys: asyncio.Queue[str] = asyncio.Queue()
        self._statuses: asyncio.Queue[v1.PodStatusUpdate] = asyncio.Queue()
        # The node's pod addresses, and those given out by the pod's uid.
        self._network: Iterator[ipaddress.IPv4Address] = iter(())
        self._addresses: dict[str, str] = {}
        self.has_session = asyncio.Event()

    async def run(self) -> NoReturn:
        try:
            await self._client.nodes.create(self._node)
        except errors.AlreadyExists:
            await self._report()
        registered = await self._client.nodes.get(self.node_name)
        self._network = ipaddress.IPv4Network(registered.spec.pod_cidr).hosts()
        self._pods.add_handler(lambda key, old, new: self._keys.put_nowait(key))
        async with asyncio.TaskGroup() as owner:
            owner.create_task(self._session())
            owner.create_task(self._pods.run())
            owner.create_task(self._work())
        raise AssertionError("an agent does not end")

    def look_again(self) -> None:
        for pod in self._pods.values():
            self._keys.put_nowait(key_of(pod))

    async def _report(self) -> None:
        """The node is ready, whatever was said of it while this agent was away."""
        status = v1.Node()
        status.CopyFrom(self._node)
        await self._client.nodes.update_status(status)

    async def _session(self) -> NoReturn:
        while True:
            # Of its own: gRPC reads on from the last session's messages for a moment after that has ended.
            self._statuses = asyncio.Queue()
            call: Any = AgentsStub(self._client.channel).Session(self._messages(self._statuses))
            try:
                async for message in call:
                    if message.WhichOneof("message") == "welcome":
                        await self._report()
                        # What was on its way when the last session ended may be lost.
                        self.look_again()
                        self.has_session.set()
                    elif any(result.reason for result in message.statuses.results):
                        self.look_again()
            except grpc.aio.AioRpcError:
                pass  # The replica is gone: another session.
            self.has_session.clear()
            await asyncio.sleep(0.1)

    async def _messages(self, statuses: asyncio.Queue[v1.PodStatusUpdate]) -> AsyncIterator[v1.AgentMessage]:
        yield v1.AgentMessage(hello=v1.Hello(node_name=self.node_name, instance=f"{self.node_name}-{id(self)}"))
        while True:
            try:
                async with asyncio.timeout(0.5):
                    update = await statuses.get()
            except TimeoutError:
                yield v1.AgentMessage(heartbeat=v1.Heartbeat())
            else:
                yield v1.AgentMessage(statuses=v1.StatusBatch(updates=[update]))

    async def _work(self) -> NoReturn:
        while True:
            pod = self._pods.get(await self._keys.get())
            if pod is None:
                continue
            meta = pod.metadata
            if meta.HasField("deletion_timestamp"):
                try:
                    await self._client.pods.delete(
                        meta.name, namespace=meta.namespace, uid=meta.uid, grace_period_seconds=0
                    )
                except errors.NotFound:
                    pass  # Somebody was quicker.
                continue
            status = self._status_of(pod)
            if pod.status.phase != "Running" or _ready(pod.status) != _ready(status):
                self._statuses.put_nowait(
                    v1.PodStatusUpdate(namespace=meta.namespace, name=meta.name, uid=meta.uid, status=status)
                )

    def _status_of(self, pod: v1.Pod) -> v1.PodStatus:
        uid = pod.metadata.uid
        if uid not in self._addresses:
            self._addresses[uid] = str(next(self._network))
        now = Timestamp()
        now.GetCurrentTime()
        condition = v1.PodCondition(
            type="Ready", status="True" if self.is_ready(pod) else "False", last_transition_time=now
        )
        return v1.PodStatus(phase="Running", pod_ip=self._addresses[uid], conditions=[condition])


def _ready(status: v1.PodStatus) -> bool:
    return any(condition.type == "Ready" and condition.status == "True" for condition in status.conditions)
