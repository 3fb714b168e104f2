"""Endpoint slices: which pods a service sends traffic to, written the moment a pod's readiness changes."""

from __future__ import annotations

from typing import NoReturn

import structlog

from controlplane import conditions
from controlplane.controllers import writing
from controlplane.controllers.endpoints import endpoints_of
from controlplane.controllers.own_writes import OwnWrites
from controlplane.controllers.reconciling import Reconciler
from controlplane.controllers.shared import BY_LABEL, BY_NODE, BY_SELECTOR, BY_SERVICE, Shared, labels_of, selector_pair
from controlplane.controllers.slice_plan import SERVICE_LABEL, is_ours, plan
from podwire import errors, v1
from podwire.keys import join_key, key_of

log = structlog.get_logger(__name__)


class EndpointSlices:
    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._slices = OwnWrites(shared.informers.endpoint_slices)
        self._reconciler = Reconciler("endpoint slices", self._reconcile, workers=8)
        shared.informers.services.add_handler(lambda key, old, new: self._reconciler.queue.add(key))
        shared.informers.endpoint_slices.add_handler(self._slice_changed)
        shared.informers.pods.add_handler(self._pod_changed)
        shared.informers.nodes.add_handler(self._node_changed)

    async def run(self) -> NoReturn:
        await self._reconciler.run()

    def _pod_changed(self, key: str, old: v1.Pod | None, new: v1.Pod | None) -> None:
        if old is not None and new is not None and _traffic(old) == _traffic(new):
            return
        for pod in (old, new):
            if pod is not None:
                self._wake_services_of(pod)

    def _wake_services_of(self, pod: v1.Pod) -> None:
        for pair in labels_of(pod):
            for service in self._shared.informers.services.by_index(BY_SELECTOR, pair):
                if _selects(service, pod):
                    self._reconciler.queue.add(key_of(service))

    def _node_changed(self, key: str, old: v1.Node | None, new: v1.Node | None) -> None:
        if _is_ready(old) != _is_ready(new):
            for pod in self._shared.informers.pods.by_index(BY_NODE, key):
                self._wake_services_of(pod)

    def _slice_changed(self, key: str, old: v1.EndpointSlice | None, new: v1.EndpointSlice | None) -> None:
        for replica in (old, new):
            if replica is not None and (name := replica.metadata.labels.get(SERVICE_LABEL)):
                self._reconciler.queue.add(join_key(replica.metadata.namespace, name))

    async def _reconcile(self, key: str) -> None:
        service = self._shared.informers.services.get(key)
        pair = selector_pair(service) if service is not None else ""
        if service is None or not pair or service.spec.type == "ExternalName":
            # Gone: the slices go with their owner. Without a selector: somebody else says what its endpoints are.
            return
        pods = [pod for pod in self._shared.informers.pods.by_index(BY_LABEL, pair) if _selects(service, pod)]
        endpoints = endpoints_of(service, pods, lambda node: _is_ready(self._shared.informers.nodes.get(node)))
        existing = self._slices.over(
            self._shared.informers.endpoint_slices.by_index(BY_SERVICE, key),
            lambda replica: (
                replica.metadata.namespace == service.metadata.namespace
                and replica.metadata.labels.get(SERVICE_LABEL) == service.metadata.name
            ),
        )
        step = plan(service, endpoints, [replica for replica in existing if is_ours(replica, service)])
        # Before anything is taken away, what replaces it is there.
        await writing.each([*step.create, *step.update], self._write)
        await writing.each(step.delete, self._delete)

    async def _write(self, replica: v1.EndpointSlice) -> None:
        slices = self._shared.client.endpoint_slices
        if replica.metadata.resource_version:
            self._slices.wrote(await slices.update(replica))
            return
        try:
            self._slices.wrote(await slices.create(replica))
        except errors.AlreadyExists:
            # Made by a predecessor, or by a write whose answer was lost; seen now, it is brought up to date at once.
            found = await slices.get(replica.metadata.name, namespace=replica.metadata.namespace)
            self._slices.wrote(found)
            raise errors.Conflict(f"endpoint slice {key_of(replica)} exists already") from None

    async def _delete(self, replica: v1.EndpointSlice) -> None:
        await writing.delete(self._shared.client.endpoint_slices, replica)
        self._slices.deleted(replica)


def _selects(service: v1.Service, pod: v1.Pod) -> bool:
    labels = pod.metadata.labels
    return all(labels.get(key) == value for key, value in service.spec.selector.items())


def _is_ready(node: v1.Node | None) -> bool:
    return node is not None and conditions.is_true(node.status.conditions, "Ready")


def _traffic(pod: v1.Pod) -> tuple[object, ...]:
    """Of a pod, what its endpoints depend on: most changes of a status are none for them."""
    return (
        pod.metadata.labels,
        pod.metadata.HasField("deletion_timestamp"),
        pod.spec.node_name,
        pod.status.pod_ip,
        pod.status.phase,
        conditions.is_true(pod.status.conditions, "Ready"),
    )
