"""The table of kinds: all that generic code (server, client, podctl, manifests) knows of a kind is its row here.

A kind is added by its proto, its row, its defaults (`podwire.defaults`) and its validation (`podwire.validation`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf.message import Message

from podwire import v1

Selectable = Callable[[Any], str]

_ALWAYS_SELECTABLE: Final[Mapping[str, Selectable]] = {
    "metadata.name": lambda o: o.metadata.name,
    "metadata.namespace": lambda o: o.metadata.namespace,
}


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """One kind of object: a row of the table, equal only to itself, so that it can be the key of a mapping.

    `plural` names it in etcd's keys (`/podwire/<plural>/<namespace>/<name>`, without the namespace where the kind has
    none) and in commands; `service` is the gRPC service; `has_status` says that status is written by UpdateStatus only.
    """

    name: str
    plural: str
    api_version: str
    message: type[Message]
    short_names: tuple[str, ...] = ()
    namespaced: bool = True
    has_status: bool = True
    has_spec: bool = True
    # Clients cannot write it: replicas do.
    read_only: bool = False
    # Field selectors beyond metadata.name and metadata.namespace, those that select least first: indexes follow them.
    selectable: Mapping[str, Selectable] = field(default_factory=dict, hash=False)
    # Every field selector of the kind: path -> the object's value as text.
    selectors: Mapping[str, Selectable] = field(init=False, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "selectors", {**_ALWAYS_SELECTABLE, **self.selectable})

    @property
    def singular(self) -> str:
        return self.name.lower()

    @property
    def service(self) -> str:
        """The full name of the gRPC service, as `podwire.v1.Pods`."""
        return f"podwire.v1.{_service_name(self)}"

    @property
    def list_message(self) -> type[Message]:
        return _message(f"{self.name}List")

    @property
    def create_request(self) -> type[Message]:
        return _message(f"{self.name}CreateRequest")

    @property
    def update_request(self) -> type[Message]:
        return _message(f"{self.name}UpdateRequest")

    @property
    def watch_response(self) -> type[Message]:
        return _message(f"{self.name}WatchResponse")


def _text(value: bool) -> str:
    return "true" if value else "false"


def _message(name: str) -> type[Message]:
    found: type[Message] = getattr(v1, name)
    return found


def _service_name(kind: Kind) -> str:
    return kind.name + "s"


NAMESPACE: Final = Kind(
    "Namespace",
    "namespaces",
    "v1",
    v1.Namespace,
    ("ns",),
    namespaced=False,
    selectable={"status.phase": lambda o: o.status.phase},
)
NODE: Final = Kind(
    "Node",
    "nodes",
    "v1",
    v1.Node,
    ("no",),
    namespaced=False,
    selectable={"spec.unschedulable": lambda o: _text(o.spec.unschedulable)},
)
NODE_SESSION: Final = Kind(
    "NodeSession",
    "nodesessions",
    "podwire.io/v1",
    v1.NodeSession,
    namespaced=False,
    has_status=False,
    read_only=True,
)
POD: Final = Kind(
    "Pod",
    "pods",
    "v1",
    v1.Pod,
    ("po",),
    selectable={
        "spec.nodeName": lambda o: o.spec.node_name,
        "status.podIP": lambda o: o.status.pod_ip,
        "status.nominatedNodeName": lambda o: o.status.nominated_node_name,
        "status.phase": lambda o: o.status.phase,
        "spec.serviceAccountName": lambda o: o.spec.service_account_name,
        "spec.schedulerName": lambda o: o.spec.scheduler_name,
        "spec.restartPolicy": lambda o: o.spec.restart_policy,
        "spec.hostNetwork": lambda o: _text(o.spec.host_network),
    },
)
SERVICE: Final = Kind(
    "Service",
    "services",
    "v1",
    v1.Service,
    ("svc",),
    selectable={"spec.clusterIP": lambda o: o.spec.cluster_ip, "spec.type": lambda o: o.spec.type},
)
ENDPOINT_SLICE: Final = Kind(
    "EndpointSlice",
    "endpointslices",
    "discovery.k8s.io/v1",
    v1.EndpointSlice,
    ("ep", "endpoints"),
    has_status=False,
    has_spec=False,
)
DEPLOYMENT: Final = Kind("Deployment", "deployments", "apps/v1", v1.Deployment, ("deploy",))
REPLICA_SET: Final = Kind(
    "ReplicaSet",
    "replicasets",
    "apps/v1",
    v1.ReplicaSet,
    ("rs",),
    selectable={"status.replicas": lambda o: str(o.status.replicas)},
)
CONFIG_MAP: Final = Kind("ConfigMap", "configmaps", "v1", v1.ConfigMap, ("cm",), has_status=False, has_spec=False)
SECRET: Final = Kind(
    "Secret",
    "secrets",
    "v1",
    v1.Secret,
    has_status=False,
    has_spec=False,
    selectable={"type": lambda o: o.type},
)
EVENT: Final = Kind(
    "Event",
    "events",
    "v1",
    v1.Event,
    ("ev",),
    has_status=False,
    has_spec=False,
    selectable={
        "involvedObject.uid": lambda o: o.involved_object.uid,
        "involvedObject.name": lambda o: o.involved_object.name,
        "involvedObject.namespace": lambda o: o.involved_object.namespace,
        "involvedObject.kind": lambda o: o.involved_object.kind,
        "involvedObject.apiVersion": lambda o: o.involved_object.api_version,
        "involvedObject.resourceVersion": lambda o: o.involved_object.resource_version,
        "involvedObject.fieldPath": lambda o: o.involved_object.field_path,
        "reason": lambda o: o.reason,
        "reportingComponent": lambda o: o.reporting_component,
        "source": lambda o: o.source.component or o.reporting_component,
        "type": lambda o: o.type,
    },
)

KINDS: Final[tuple[Kind, ...]] = (
    NAMESPACE,
    NODE,
    NODE_SESSION,
    POD,
    SERVICE,
    ENDPOINT_SLICE,
    DEPLOYMENT,
    REPLICA_SET,
    CONFIG_MAP,
    SECRET,
    EVENT,
)
BY_NAME: Final[Mapping[str, Kind]] = {kind.name: kind for kind in KINDS}
BY_MESSAGE: Final[Mapping[type[Message], Kind]] = {kind.message: kind for kind in KINDS}


def find(word: str) -> Kind | None:
    """The kind that a person means by `word`: its plural, singular or a short name, in any case."""
    wanted = word.lower()
    for kind in KINDS:
        if wanted in (kind.plural, kind.singular, *kind.short_names):
            return kind
    return None
