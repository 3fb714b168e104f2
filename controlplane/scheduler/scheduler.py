"""The scheduler's loop: pods without a node come in, bindings go out.

A decision takes no await, so that two pods never get the same room; the binding goes on beside the next decisions, and
its pod counts as placed meanwhile. A pod that fits nowhere is parked, says why in its condition and in an event, and is
tried again when a change of the nodes or of other pods could help, at most every 1 to 10 seconds.
"""

from __future__ import annotations

import asyncio
from typing import Final, NoReturn

import structlog

from controlplane import conditions
from controlplane.clock import Now, utc_now
from controlplane.scheduler.cluster import Cluster, facts_of, takes_room
from controlplane.scheduler.demand import demand_of
from controlplane.scheduler.scheduling import decide
from podwire import errors, v1
from podwire.backoff import Backoff
from podwire.client import Client, Informer, WorkQueue
from podwire.client.recorder import NORMAL, WARNING, EventRecorder

log = structlog.get_logger(__name__)

# A pod that names another scheduler is left to it: Pods.Bind is open to any.
_OUR_NAMES: Final = ("", "default-scheduler")
# Seconds between attempts for a pod that fits nowhere; Kubernetes' podInitialBackoffSeconds and podMaxBackoffSeconds.
_BACKOFF_FIRST: Final = 1.0
_BACKOFF_CAP: Final = 10.0
# Bindings on their way at a time: enough to keep the API busy, few enough to leave it room for others.
_BINDINGS: Final = 64


class Scheduler:
    def __init__(self, client: Client, *, now: Now = utc_now) -> None:
        self._client = client
        self._now = now
        self._recorder = EventRecorder(client.events, component="podwire-scheduler")
        self._pods = Informer(client.pods)
        self._nodes = Informer(client.nodes)
        self._cluster = Cluster()
        self._queue: WorkQueue[str] = WorkQueue(retry_cap=_BACKOFF_CAP)
        self._backoffs: dict[str, Backoff] = {}
        # Pods that fit nowhere -> the loop time before which they are not tried again.
        self._parked: dict[str, float] = {}
        self._bindings = asyncio.Semaphore(_BINDINGS)

    async def run(self) -> NoReturn:
        """Schedules until cancelled. Raises errors.Fenced (in a group) when another scheduler has taken over."""
        self._nodes.add_handler(self._node_changed)
        self._pods.add_handler(self._pod_changed)
        async with asyncio.TaskGroup() as owner:
            owner.create_task(self._nodes.run(), name="nodes")
            owner.create_task(self._pods.run(), name="pods")
            owner.create_task(self._recorder.run(), name="events")
            await self._nodes.wait_synced()
            await self._pods.wait_synced()
            log.info("scheduling", pods=len(self._pods.keys()), nodes=len(self._nodes.keys()), waiting=len(self._queue))
            while True:
                key = await self._queue.get()
                try:
                    self._schedule(key, owner)
                finally:
                    self._queue.done(key)
                # The queue gives its next key without a pause; bindings and watches must get their turn.
                await asyncio.sleep(0)

    def _schedule(self, key: str, owner: asyncio.TaskGroup) -> None:
        pod = self._pods.get(key)
        if pod is None or not _wants_node(pod) or self._cluster.has(pod.metadata.uid):
            return
        demand = demand_of(pod)
        decision = decide(pod, demand, self._cluster)
        if decision.node:
            self._cluster.place(pod, decision.node, demand)
            owner.create_task(self._bind(key, pod, decision.node), name=f"bind {key}")
        else:
            self._park(key)
            owner.create_task(self._report(key, pod, decision.reason), name=f"report {key}")

    async def _bind(self, key: str, pod: v1.Pod, node: str) -> None:
        meta = pod.metadata
        try:
            async with self._bindings:
                await self._client.pods.bind(meta.name, meta.namespace, meta.uid, node)
        except errors.Fenced:
            raise
        except errors.PodwireError as error:
            # Whether it was bound after all shows in the informer; if not, it is simply tried again.
            log.info("binding failed", pod=key, node=node, error=str(error))
            current = self._pods.get(key)
            if current is None or current.metadata.uid != meta.uid or not takes_room(current):
                self._cluster.remove(meta.uid)
                self._room_was_made()
            self._queue.retry(key)
        else:
            self._queue.forget(key)
            self._backoffs.pop(key, None)
            self._recorder.event(pod, NORMAL, "Scheduled", f"Successfully assigned {key} to {node}")

    async def _report(self, key: str, pod: v1.Pod, reason: str) -> None:
        """Says in the pod's condition and in an event why it has no node."""
        self._recorder.event(pod, WARNING, "FailedScheduling", reason)
        changed = v1.Pod()
        changed.CopyFrom(pod)
        if not conditions.put(changed.status.conditions, "PodScheduled", "False", "Unschedulable", reason, self._now()):
            return
        log.info("pod fits nowhere", pod=key, reason=reason)
        try:
            await self._client.pods.update_status(changed)
        except errors.Fenced:
            raise
        except errors.PodwireError as error:
            # It has changed or gone meanwhile, or the API is away: another attempt writes it again.
            log.info("condition not written", pod=key, error=str(error))
            self._queue.retry(key)

    def _park(self, key: str) -> None:
        backoff = self._backoffs.setdefault(key, Backoff(_BACKOFF_FIRST, _BACKOFF_CAP))
        self._parked[key] = asyncio.get_running_loop().time() + backoff.next()

    def _room_was_made(self) -> None:
        """Something changed that could help a parked pod: each is tried again when its back-off is over."""
        now = asyncio.get_running_loop().time()
        for key, not_before in self._parked.items():
            self._queue.add_after(key, max(0.0, not_before - now))
        self._parked.clear()

    def _pod_changed(self, key: str, old: v1.Pod | None, new: v1.Pod | None) -> None:
        if new is None:
            self._parked.pop(key, None)
            self._backoffs.pop(key, None)
            self._queue.forget(key)
            if old is not None and self._cluster.remove(old.metadata.uid):
                self._room_was_made()
        elif takes_room(new):
            self._parked.pop(key, None)
            self._cluster.place(new, new.spec.node_name)
        elif new.spec.node_name:
            if self._cluster.remove(new.metadata.uid):
                self._room_was_made()
        elif _wants_node(new) and (old is None or old.spec != new.spec):
            # Not for a change of its status alone: that is what our own report makes.
            self._queue.add(key)

    def _node_changed(self, key: str, old: v1.Node | None, new: v1.Node | None) -> None:
        if new is None:
            self._cluster.remove_node(key)
        elif self._cluster.set_node(facts_of(new)):
            self._room_was_made()


def _wants_node(pod: v1.Pod) -> bool:
    return (
        not pod.spec.node_name
        and pod.status.phase in ("", "Pending")
        and pod.spec.scheduler_name in _OUR_NAMES
        and not pod.metadata.HasField("deletion_timestamp")
    )
