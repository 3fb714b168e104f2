"""Replica sets: as many pods of the template as asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import NoReturn

import structlog

from controlplane.controllers import names, writing
from controlplane.controllers.own_writes import OwnWrites
from controlplane.controllers.ownership import claim, controller_of, controller_uid, is_orphan_in, reference_to
from controlplane.controllers.pod_state import available_at, is_terminating
from controlplane.controllers.reconciling import Reconciler
from controlplane.controllers.replica_set_plan import observe, plan
from controlplane.controllers.shared import BY_CONTROLLER, BY_NAMESPACE, ORPHANS, Shared
from podwire import errors, v1
from podwire.client.recorder import NORMAL, WARNING
from podwire.keys import join_key
from podwire.kinds import REPLICA_SET
from podwire.selectors import LabelSelector

log = structlog.get_logger(__name__)


class ReplicaSets:
    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._sets = OwnWrites(shared.informers.replica_sets)
        self._pods = OwnWrites(shared.informers.pods)
        # Keys whose last creation may or may not have happened: the API is asked before the next one.
        self._unsure: set[str] = set()
        self._reconciler = Reconciler("replica sets", self._reconcile, workers=8)
        shared.informers.replica_sets.add_handler(lambda key, old, new: self._reconciler.queue.add(key))
        shared.informers.pods.add_handler(self._pod_changed)

    async def run(self) -> NoReturn:
        await self._reconciler.run()

    def _pod_changed(self, key: str, old: v1.Pod | None, new: v1.Pod | None) -> None:
        if old is not None and new is not None and _counted_by(old) == _counted_by(new):
            return
        for pod in (old, new):
            if pod is None:
                continue
            owner = controller_of(pod)
            if owner is not None and owner.kind == REPLICA_SET.name:
                self._reconciler.queue.add(join_key(pod.metadata.namespace, owner.name))
            elif owner is None and pod is new:
                for replica_set in self._shared.informers.replica_sets.by_index(BY_NAMESPACE, pod.metadata.namespace):
                    if LabelSelector.from_message(replica_set.spec.selector).matches(pod.metadata.labels):
                        self._reconciler.queue.add(join_key(pod.metadata.namespace, replica_set.metadata.name))

    async def _reconcile(self, key: str) -> None:
        replica_set = self._sets.get(key)
        if replica_set is None:
            self._unsure.discard(key)
            return
        if key in self._unsure:
            await self._make_sure(key, replica_set)
        owned = await self._claim(replica_set)
        if not replica_set.metadata.HasField("deletion_timestamp"):
            step = plan(replica_set, owned)
            await self._create(key, replica_set, step.create)
            await self._delete(replica_set, step.delete)
        await self._report(key, replica_set)

    def _owned(self, replica_set: v1.ReplicaSet) -> list[v1.Pod]:
        uid = replica_set.metadata.uid
        seen = self._shared.informers.pods.by_index(BY_CONTROLLER, uid)
        return self._pods.over(seen, lambda pod: controller_uid(pod) == uid)

    async def _claim(self, replica_set: v1.ReplicaSet) -> list[v1.Pod]:
        """The pods that are its own, after letting go and taking in what must be."""
        seen = self._shared.informers.pods.by_index(ORPHANS, replica_set.metadata.namespace)
        orphans = self._pods.over(seen, lambda pod: is_orphan_in(replica_set.metadata.namespace, pod))
        selector = LabelSelector.from_message(replica_set.spec.selector)
        claims = claim(replica_set, selector, [*self._owned(replica_set), *orphans])
        for pod in claims.release:
            await self._set_owner(pod, None)
        if not claims.adopt or not await writing.may_adopt(self._shared.client.replica_sets, replica_set):
            return claims.owned
        for pod in claims.adopt:
            await self._set_owner(pod, reference_to(REPLICA_SET, replica_set))
        return self._owned(replica_set)

    async def _set_owner(self, pod: v1.Pod, owner: v1.OwnerReference | None) -> None:
        changed = v1.Pod()
        changed.CopyFrom(pod)
        others = [reference for reference in pod.metadata.owner_references if not reference.controller]
        del changed.metadata.owner_references[:]
        changed.metadata.owner_references.extend([*others, *([owner] if owner is not None else [])])
        self._pods.wrote(await self._shared.client.pods.update(changed))

    async def _create(self, key: str, replica_set: v1.ReplicaSet, missing: int) -> None:
        """One, then two, then four at once: where each fails, few are tried (Kubernetes' slow start)."""
        batch = 1
        while missing > 0:
            count = min(batch, missing)
            outcomes = await asyncio.gather(
                *(self._create_one(replica_set) for _ in range(count)), return_exceptions=True
            )
            for outcome in outcomes:
                if isinstance(outcome, errors.Unavailable | errors.Timeout):
                    self._unsure.add(key)
                if isinstance(outcome, errors.PodwireError) and not isinstance(outcome, errors.Fenced):
                    self._shared.recorder.event(
                        replica_set, WARNING, "FailedCreate", f"Error creating: {outcome.message}"
                    )
            writing.raise_first(outcomes)
            missing -= count
            batch *= 2

    async def _create_one(self, replica_set: v1.ReplicaSet) -> None:
        pod = v1.Pod()
        pod.metadata.CopyFrom(replica_set.spec.template.metadata)
        pod.metadata.name = names.random_name(replica_set.metadata.name, self._shared.source)
        pod.metadata.namespace = replica_set.metadata.namespace
        pod.metadata.owner_references.append(reference_to(REPLICA_SET, replica_set))
        pod.spec.CopyFrom(replica_set.spec.template.spec)
        created = await self._shared.client.pods.create(pod)
        self._pods.wrote(created)
        self._shared.recorder.event(replica_set, NORMAL, "SuccessfulCreate", f"Created pod: {created.metadata.name}")

    async def _delete(self, replica_set: v1.ReplicaSet, surplus: Sequence[v1.Pod]) -> None:
        async def delete(pod: v1.Pod) -> None:
            await writing.delete(self._shared.client.pods, pod)
            self._pods.deleted(pod)
            self._shared.recorder.event(replica_set, NORMAL, "SuccessfulDelete", f"Deleted pod: {pod.metadata.name}")

        await writing.each(surplus, delete)

    async def _make_sure(self, key: str, replica_set: v1.ReplicaSet) -> None:
        """Learns from the API itself which pods there are."""
        selector = LabelSelector.from_message(replica_set.spec.selector)
        listed = await self._shared.client.pods.list(
            namespace=replica_set.metadata.namespace, label_selector=str(selector)
        )
        for pod in listed.items:
            if controller_uid(pod) == replica_set.metadata.uid:
                self._pods.wrote(pod)
        self._unsure.discard(key)

    async def _report(self, key: str, replica_set: v1.ReplicaSet) -> None:
        now = self._shared.now()
        observed = observe(replica_set, self._owned(replica_set), now)
        if observed.status != replica_set.status:
            changed = v1.ReplicaSet()
            changed.CopyFrom(replica_set)
            changed.status.CopyFrom(observed.status)
            # Nobody else writes this status: a change of the spec meanwhile is no reason to refuse it.
            changed.metadata.resource_version = ""
            try:
                self._sets.wrote(await self._shared.client.replica_sets.update_status(changed))
            except errors.NotFound:
                return
        if observed.changes_at is not None:
            # Times in a status are whole seconds: a second later is late enough.
            delay = observed.changes_at - now + timedelta(seconds=1)
            self._reconciler.queue.add_after(key, delay.total_seconds())


def _counted_by(pod: v1.Pod) -> tuple[object, ...]:
    """Of a pod, what its set counts it by: most changes of a status are none for it."""
    return (
        pod.metadata.labels,
        list(pod.metadata.owner_references),
        is_terminating(pod),
        pod.status.phase,
        available_at(pod, 0),
    )
