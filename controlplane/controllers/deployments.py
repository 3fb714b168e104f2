"""Deployments: one replica set a template, and pods that move from the old one to the new one in safe steps."""

from __future__ import annotations

from datetime import timedelta
from typing import NoReturn

import structlog

from controlplane.controllers import writing
from controlplane.controllers.deployment_status import observe
from controlplane.controllers.own_writes import OwnWrites
from controlplane.controllers.ownership import claim, controller_of, controller_uid, is_orphan_in, reference_to
from controlplane.controllers.pod_state import is_finished
from controlplane.controllers.reconciling import Reconciler
from controlplane.controllers.rollout import REVISION, current_set, plan, superfluous
from controlplane.controllers.shared import BY_CONTROLLER, BY_NAMESPACE, ORPHANS, Shared
from podwire import errors, v1
from podwire.client.recorder import NORMAL
from podwire.keys import join_key, key_of
from podwire.kinds import DEPLOYMENT, REPLICA_SET
from podwire.selectors import LabelSelector

log = structlog.get_logger(__name__)


class Deployments:
    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._deployments = OwnWrites(shared.informers.deployments)
        self._sets = OwnWrites(shared.informers.replica_sets)
        self._reconciler = Reconciler("deployments", self._reconcile)
        shared.informers.deployments.add_handler(lambda key, old, new: self._reconciler.queue.add(key))
        shared.informers.replica_sets.add_handler(self._set_changed)
        shared.informers.pods.add_handler(self._pod_changed)

    async def run(self) -> NoReturn:
        await self._reconciler.run()

    def _set_changed(self, key: str, old: v1.ReplicaSet | None, new: v1.ReplicaSet | None) -> None:
        for replica_set in (old, new):
            if replica_set is None:
                continue
            namespace = replica_set.metadata.namespace
            owner = controller_of(replica_set)
            if owner is not None and owner.kind == DEPLOYMENT.name:
                self._reconciler.queue.add(join_key(namespace, owner.name))
            elif owner is None and replica_set is new:
                for deployment in self._shared.informers.deployments.by_index(BY_NAMESPACE, namespace):
                    if LabelSelector.from_message(deployment.spec.selector).matches(replica_set.metadata.labels):
                        self._reconciler.queue.add(key_of(deployment))

    def _pod_changed(self, key: str, old: v1.Pod | None, new: v1.Pod | None) -> None:
        """Recreate waits for the last pod of the old template to go; everything else shows in the sets' statuses."""
        if old is None or not (new is None or (is_finished(new) and not is_finished(old))):
            return
        owner = controller_of(old)
        if owner is not None and owner.kind == REPLICA_SET.name:
            replica_set = self._shared.informers.replica_sets.get(join_key(old.metadata.namespace, owner.name))
            if replica_set is not None and (above := controller_of(replica_set)) is not None:
                self._reconciler.queue.add(join_key(old.metadata.namespace, above.name))

    async def _reconcile(self, key: str) -> None:
        deployment = self._deployments.get(key)
        if deployment is None or deployment.metadata.HasField("deletion_timestamp"):
            return
        owned = await self._claim(deployment)
        step = plan(deployment, owned, old_pods=self._has_old_pods(deployment, owned))
        if step.create is not None and not await self._create(deployment, step.create):
            return
        for replica_set in step.update:
            await self._update(deployment, replica_set)
        deployment = await self._annotate(deployment, step.revision)
        await self._report(key, deployment)

    def _owned(self, deployment: v1.Deployment) -> list[v1.ReplicaSet]:
        uid = deployment.metadata.uid
        seen = self._shared.informers.replica_sets.by_index(BY_CONTROLLER, uid)
        return self._sets.over(seen, lambda replica_set: controller_uid(replica_set) == uid)

    async def _claim(self, deployment: v1.Deployment) -> list[v1.ReplicaSet]:
        seen = self._shared.informers.replica_sets.by_index(ORPHANS, deployment.metadata.namespace)
        orphans = self._sets.over(seen, lambda obj: is_orphan_in(deployment.metadata.namespace, obj))
        selector = LabelSelector.from_message(deployment.spec.selector)
        claims = claim(deployment, selector, [*self._owned(deployment), *orphans])
        for replica_set in claims.release:
            await self._set_owner(replica_set, None)
        if not claims.adopt or not await writing.may_adopt(self._shared.client.deployments, deployment):
            return claims.owned
        for replica_set in claims.adopt:
            await self._set_owner(replica_set, reference_to(DEPLOYMENT, deployment))
        return self._owned(deployment)

    async def _set_owner(self, replica_set: v1.ReplicaSet, owner: v1.OwnerReference | None) -> None:
        changed = v1.ReplicaSet()
        changed.CopyFrom(replica_set)
        others = [reference for reference in replica_set.metadata.owner_references if not reference.controller]
        del changed.metadata.owner_references[:]
        changed.metadata.owner_references.extend([*others, *([owner] if owner is not None else [])])
        self._sets.wrote(await self._shared.client.replica_sets.update(changed))

    def _has_old_pods(self, deployment: v1.Deployment, owned: list[v1.ReplicaSet]) -> bool:
        current = current_set(deployment, owned)
        return any(
            not is_finished(pod)
            for replica_set in owned
            if replica_set is not current
            for pod in self._shared.informers.pods.by_index(BY_CONTROLLER, replica_set.metadata.uid)
        )

    async def _create(self, deployment: v1.Deployment, replica_set: v1.ReplicaSet) -> bool:
        """Whether the set is there now; if not, the deployment has been changed so that the next attempt succeeds."""
        try:
            created = await self._shared.client.replica_sets.create(replica_set)
        except errors.AlreadyExists:
            found = await self._shared.client.replica_sets.get(
                replica_set.metadata.name, namespace=replica_set.metadata.namespace
            )
            if controller_uid(found) != deployment.metadata.uid:
                await self._rename(deployment, found)
                return False
            # Made by a predecessor, or by a write whose answer was lost.
            created = found
        else:
            self._tell_scaled(deployment, replica_set, 0)
        self._sets.wrote(created)
        return True

    async def _rename(self, deployment: v1.Deployment, stranger: v1.ReplicaSet) -> None:
        """The name is taken by a set that is not ours: counting that makes the template's hash another one."""
        log.warning("name of a replica set is taken", deployment=key_of(deployment), replica_set=key_of(stranger))
        changed = v1.Deployment()
        changed.CopyFrom(deployment)
        changed.status.collision_count += 1
        self._deployments.wrote(await self._shared.client.deployments.update_status(changed))

    async def _update(self, deployment: v1.Deployment, replica_set: v1.ReplicaSet) -> None:
        before = self._sets.get(key_of(replica_set))
        self._sets.wrote(await self._shared.client.replica_sets.update(replica_set))
        if before is not None and before.spec.replicas != replica_set.spec.replicas:
            self._tell_scaled(deployment, replica_set, before.spec.replicas)

    def _tell_scaled(self, deployment: v1.Deployment, replica_set: v1.ReplicaSet, before: int) -> None:
        direction = "up" if replica_set.spec.replicas >= before else "down"
        self._shared.recorder.event(
            deployment,
            NORMAL,
            "ScalingReplicaSet",
            f"Scaled {direction} replica set {replica_set.metadata.name} from {before} to {replica_set.spec.replicas}",
        )

    async def _annotate(self, deployment: v1.Deployment, revision: str) -> v1.Deployment:
        """The deployment says which revision it is at, for people and `rollout history`."""
        if not revision or deployment.metadata.annotations.get(REVISION) == revision:
            return deployment
        changed = v1.Deployment()
        changed.CopyFrom(deployment)
        changed.metadata.annotations[REVISION] = revision
        written = await self._shared.client.deployments.update(changed)
        self._deployments.wrote(written)
        return written

    async def _report(self, key: str, deployment: v1.Deployment) -> None:
        now = self._shared.now()
        owned = self._owned(deployment)
        observed = observe(deployment, current_set(deployment, owned), owned, now)
        if observed.status != deployment.status:
            changed = v1.Deployment()
            changed.CopyFrom(deployment)
            changed.status.CopyFrom(observed.status)
            # Nobody else writes this status: a change of the spec meanwhile is no reason to refuse it.
            changed.metadata.resource_version = ""
            try:
                self._deployments.wrote(await self._shared.client.deployments.update_status(changed))
            except errors.NotFound:
                return
        if observed.complete:
            await writing.each(superfluous(deployment, owned), self._delete)
        if observed.changes_at is not None:
            delay = observed.changes_at - now + timedelta(seconds=1)
            self._reconciler.queue.add_after(key, delay.total_seconds())

    async def _delete(self, replica_set: v1.ReplicaSet) -> None:
        await writing.delete(self._shared.client.replica_sets, replica_set)
        self._sets.deleted(replica_set)
