"""The pods of this node: a worker each, from the first sight of a pod until nothing of it is left.

Pods come from two sides: from checkpoints when the agent starts, and from the API. A pod new to this node is started
only once the node is ready for it (`open`); what runs already is looked after from the first moment. Where the API has
another pod under the name of one that is still here, the old one goes first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import Final, NoReturn

import structlog

from nodeagent.model import ObservedPod, PodUid
from nodeagent.pods.surroundings import Surroundings
from nodeagent.pods.worker import PodWorker
from podwire import v1
from podwire.attempt import attempt
from podwire.backoff import Backoff
from podwire.keys import key_of

log = structlog.get_logger(__name__)

# Seconds before a worker that failed runs again: a fault of ours must neither stop a pod for good nor burn a core.
_WORKER_FIRST: Final = 0.5
_WORKER_CAP: Final = 30.0


class Pods:
    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._workers: dict[PodUid, PodWorker] = {}
        # Pods of the API that have no worker yet: the node is not ready, or an older pod has their name.
        self._waiting: dict[PodUid, v1.Pod] = {}
        # Pods that were removed here and that the API still shows.
        self._removed: set[PodUid] = set()
        self._is_open = False
        self._owner: asyncio.TaskGroup | None = None
        self._ended = asyncio.Event()
        self.failures = 0
        """Workers that failed by a fault of the agent, since its start."""

    async def run(self, checkpoints: Mapping[PodUid, v1.Pod], observed: Mapping[PodUid, ObservedPod]) -> NoReturn:
        """Works until cancelled, beginning with the pods that an agent before this one left."""
        async with asyncio.TaskGroup() as owner:
            self._owner = owner
            for uid, pod in checkpoints.items():
                found = observed.get(uid) or ObservedPod(uid, pod.metadata.namespace, pod.metadata.name)
                self._start(pod, observed=found, reported=pod.status)
            self._start_waiting()
            while True:
                self._ended.clear()
                await self._ended.wait()
                self._start_waiting()

    def open(self) -> None:
        """The node is ready for pods it has not had yet."""
        self._is_open = True
        self._start_waiting()

    def settle(self, present: Iterable[v1.Pod]) -> None:
        """Pods from checkpoints that are not among those the API has are gone."""
        uids = {pod.metadata.uid for pod in present}
        for uid, worker in self._workers.items():
            if uid not in uids:
                worker.pod_is_gone()

    def changed(self, _key: str, old: v1.Pod | None, new: v1.Pod | None) -> None:
        """The API's pods changed: an informer's handler."""
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
            self._gone(PodUid(old.metadata.uid))
        if new is None:
            return
        uid = PodUid(new.metadata.uid)
        worker = self._workers.get(uid)
        if worker is not None:
            worker.update(new)
        elif uid not in self._removed:
            self._waiting[uid] = new
            self._start_waiting()

    def runtime_changed(self, uid: PodUid | None) -> None:
        """Containers of a pod changed; None: of any, look at all."""
        if uid is None:
            for worker in self._workers.values():
                worker.runtime_changed()
        elif uid in self._workers:
            self._workers[uid].runtime_changed()

    def find(self, namespace: str, name: str) -> PodWorker | None:
        """The worker of the pod that has this name now."""
        for worker in self._workers.values():
            meta = worker.pod.metadata
            if meta.namespace == namespace and meta.name == name and not worker.gone:
                return worker
        return None

    @property
    def uids(self) -> Collection[PodUid]:
        """All pods that are here or are going to be."""
        return {*self._workers, *self._waiting}

    def _gone(self, uid: PodUid) -> None:
        self._waiting.pop(uid, None)
        self._removed.discard(uid)
        if uid in self._workers:
            self._workers[uid].pod_is_gone()

    def _start_waiting(self) -> None:
        if self._owner is None:
            return
        names = {worker.key for worker in self._workers.values()}
        for uid, pod in list(self._waiting.items()):
            # A pod that is being deleted and was never started here needs no network, only its end.
            if not self._is_open and not pod.metadata.HasField("deletion_timestamp"):
                continue
            if key_of(pod) not in names:
                del self._waiting[uid]
                names.add(key_of(pod))
                self._start(pod, observed=ObservedPod(uid, pod.metadata.namespace, pod.metadata.name))

    def _start(self, pod: v1.Pod, *, observed: ObservedPod, reported: v1.PodStatus | None = None) -> None:
        assert self._owner is not None
        worker = PodWorker(pod, self._surroundings, observed=observed, reported=reported)
        self._workers[worker.uid] = worker
        self._owner.create_task(self._supervise(worker), name=f"pod {worker.key}")

    async def _supervise(self, worker: PodWorker) -> None:
        backoff = Backoff(_WORKER_FIRST, _WORKER_CAP, uniform=self._surroundings.uniform)
        while True:
            try:
                await attempt(worker.run())
                break
            except Exception:
                # The one place that outlives a fault: one pod's must not take the node's other pods with it.
                self.failures += 1
                log.exception("pod worker failed", pod=worker.key)
            await self._surroundings.clock.sleep(backoff.next())
        del self._workers[worker.uid]
        if not worker.gone:
            self._removed.add(worker.uid)
        self._ended.set()
