"""What the controllers of one process share: the client, one informer a kind with its indexes, the recorder."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from controlplane.clock import Now, utc_now
from controlplane.controllers.ownership import controller_uid
from controlplane.controllers.slice_plan import SERVICE_LABEL
from podwire import v1
from podwire.client import Client, Informer
from podwire.client.recorder import EventRecorder
from podwire.keys import Object, join_key
from podwire.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    ENDPOINT_SLICE,
    NAMESPACE,
    NODE,
    NODE_SESSION,
    POD,
    REPLICA_SET,
    SECRET,
    SERVICE,
)

# Names of indexes, and what their values are.
BY_CONTROLLER: Final = "controller uid"
BY_OWNER: Final = "owner uid"
# Objects that nobody controls, by namespace: candidates for adoption.
ORPHANS: Final = "orphans of namespace"
BY_NAMESPACE: Final = "namespace"
# `namespace/key=value` for every label of a pod.
BY_LABEL: Final = "label"
BY_NODE: Final = "node"
# The key of the service that an endpoint slice belongs to.
BY_SERVICE: Final = "service"
# `namespace/key=value` of one pair of a service's selector, the same that `BY_LABEL` finds its pods by.
BY_SELECTOR: Final = "selector"


@dataclass(slots=True)
class Informers:
    namespaces: Informer[v1.Namespace]
    nodes: Informer[v1.Node]
    node_sessions: Informer[v1.NodeSession]
    pods: Informer[v1.Pod]
    services: Informer[v1.Service]
    endpoint_slices: Informer[v1.EndpointSlice]
    deployments: Informer[v1.Deployment]
    replica_sets: Informer[v1.ReplicaSet]
    # Only their metadata: these are followed for the sake of their owners.
    config_maps: Informer[v1.ConfigMap]
    secrets: Informer[v1.Secret]

    @classmethod
    def of(cls, client: Client) -> Informers:
        informers = cls(
            namespaces=Informer(client.namespaces),
            nodes=Informer(client.nodes),
            node_sessions=Informer(client.node_sessions),
            pods=Informer(client.pods),
            services=Informer(client.services),
            endpoint_slices=Informer(client.endpoint_slices),
            deployments=Informer(client.deployments),
            replica_sets=Informer(client.replica_sets),
            config_maps=Informer(client.config_maps, strip=_keep_metadata),
            secrets=Informer(client.secrets, strip=_keep_metadata),
        )
        for informer in informers.by_kind().values():
            informer.add_index(BY_OWNER, _owners)
        informers.pods.add_index(BY_CONTROLLER, _controller)
        informers.pods.add_index(ORPHANS, _orphanage)
        informers.replica_sets.add_index(BY_CONTROLLER, _controller)
        informers.replica_sets.add_index(ORPHANS, _orphanage)
        informers.replica_sets.add_index(BY_NAMESPACE, _namespace)
        informers.deployments.add_index(BY_NAMESPACE, _namespace)
        informers.pods.add_index(BY_LABEL, labels_of)
        informers.pods.add_index(BY_NODE, lambda pod: [pod.spec.node_name] if pod.spec.node_name else [])
        informers.services.add_index(BY_SELECTOR, lambda service: [pair] if (pair := selector_pair(service)) else [])
        informers.endpoint_slices.add_index(BY_SERVICE, _service)
        return informers

    def by_kind(self) -> dict[str, Informer[Any]]:
        """By the kind's name."""
        return {
            NAMESPACE.name: self.namespaces,
            NODE.name: self.nodes,
            NODE_SESSION.name: self.node_sessions,
            POD.name: self.pods,
            SERVICE.name: self.services,
            ENDPOINT_SLICE.name: self.endpoint_slices,
            DEPLOYMENT.name: self.deployments,
            REPLICA_SET.name: self.replica_sets,
            CONFIG_MAP.name: self.config_maps,
            SECRET.name: self.secrets,
        }

    async def wait_synced(self) -> None:
        for informer in self.by_kind().values():
            await informer.wait_synced()

    def start(self, owner: asyncio.TaskGroup) -> None:
        for name, informer in self.by_kind().items():
            owner.create_task(informer.run(), name=f"{name} informer")


@dataclass(slots=True)
class Shared:
    """`source` of random names and `now` are parameters, so that tests control them."""

    client: Client
    informers: Informers
    recorder: EventRecorder
    source: random.Random
    now: Now = utc_now


def selector_pair(service: v1.Service) -> str:
    """One pair of the selector in the form of `BY_LABEL`; empty: the service selects nothing."""
    if not service.spec.selector:
        return ""
    key, value = min(service.spec.selector.items())
    return f"{service.metadata.namespace}/{key}={value}"


def labels_of(pod: v1.Pod) -> Iterator[str]:
    for key, value in pod.metadata.labels.items():
        yield f"{pod.metadata.namespace}/{key}={value}"


def _keep_metadata(obj: Any) -> None:
    for descriptor, _ in obj.ListFields():
        if descriptor.name != "metadata":
            obj.ClearField(descriptor.name)
    obj.metadata.ClearField("managed_fields")


def _namespace(obj: Object) -> Iterable[str]:
    return [obj.metadata.namespace]


def _owners(obj: Object) -> Iterable[str]:
    return [owner.uid for owner in obj.metadata.owner_references]


def _controller(obj: Object) -> Iterable[str]:
    uid = controller_uid(obj)
    return [uid] if uid else []


def _orphanage(obj: Object) -> Iterable[str]:
    return [] if controller_uid(obj) else [obj.metadata.namespace]


def _service(replica: v1.EndpointSlice) -> Iterable[str]:
    name = replica.metadata.labels.get(SERVICE_LABEL)
    return [join_key(replica.metadata.namespace, name)] if name else []
