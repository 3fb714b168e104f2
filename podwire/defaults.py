"""The values that fields have when a manifest does not set them, as in Kubernetes (pkg/apis/*/v1/defaults.go).

Applied by the server to everything it stores, and by an agent to static pods. Applying them twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any, Final, NamedTuple

from podwire import kinds, v1
from podwire.kinds import Kind

# Modes of files that come from config maps, secrets and the like.
_FILE_MODE: Final = 0o644


class _Filled(NamedTuple):
    qos_class: str
    spec: bytes


# Specs of pods as they were sent, and with their defaults; at most some 10 MB, and usually a few hundred bytes each.
_FILLED_IN: Final[dict[bytes, _Filled]] = {}
_MOST_REMEMBERED: Final = 1_024
_LARGEST_REMEMBERED: Final = 4_096


def apply_defaults(kind: Kind, message: Any) -> None:
    """Sets what is absent in `message`, in place."""
    defaults = _DEFAULTS.get(kind.name)
    if defaults is not None:
        defaults(message)


def image_pull_policy(image: str) -> str:
    """Always for the tag latest, written or meant; IfNotPresent for another tag or a digest."""
    last = image.rpartition("/")[2]
    if "@" in last:
        return "IfNotPresent"
    _, _, tag = last.partition(":")
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def qos_class(spec: v1.PodSpec) -> str:
    """Guaranteed, Burstable or BestEffort, by the cpu and memory that the containers ask for."""
    containers = list(_containers(spec))
    amounts = [
        (c.resources.requests[name].string, c.resources.limits[name].string)
        if name in c.resources.requests and name in c.resources.limits
        else None
        for c in containers
        for name in ("cpu", "memory")
    ]
    if all(pair is not None and pair[0] == pair[1] for pair in amounts):
        return "Guaranteed"
    asked = chain.from_iterable(chain(c.resources.requests, c.resources.limits) for c in containers)
    return "Burstable" if any(name in ("cpu", "memory") for name in asked) else "BestEffort"


def _pod(pod: v1.Pod) -> None:
    # The pods of a workload have one and the same spec: it is filled in once, in a sixth of the time for the others.
    sent = pod.spec.SerializeToString(deterministic=True)
    known = _FILLED_IN.get(sent)
    if known is None:
        _fill_in(pod.spec)
        known = _Filled(qos_class(pod.spec), pod.spec.SerializeToString())
        if len(sent) <= _LARGEST_REMEMBERED:
            if len(_FILLED_IN) >= _MOST_REMEMBERED:
                _FILLED_IN.clear()
            _FILLED_IN[sent] = known
    else:
        pod.spec.ParseFromString(known.spec)
    pod.status.phase = pod.status.phase or "Pending"
    pod.status.qos_class = pod.status.qos_class or known.qos_class


def _fill_in(spec: v1.PodSpec) -> None:
    # Only here, not in templates: a template shows what its author wrote.
    for container in _containers(spec):
        for name, limit in container.resources.limits.items():
            if name not in container.resources.requests:
                container.resources.requests[name].CopyFrom(limit)
    if not spec.HasField("enable_service_links"):
        spec.enable_service_links = True
    _pod_spec(spec)


def _pod_spec(spec: v1.PodSpec) -> None:
    spec.restart_policy = spec.restart_policy or "Always"
    spec.dns_policy = spec.dns_policy or "ClusterFirst"
    spec.scheduler_name = spec.scheduler_name or "default-scheduler"
    if not spec.HasField("termination_grace_period_seconds"):
        spec.termination_grace_period_seconds = 30
    spec.security_context.SetInParent()
    for volume in spec.volumes:
        _volume(volume)
    for container in _containers(spec):
        _container(container, host_network=spec.host_network)


def _containers(spec: v1.PodSpec) -> Iterable[v1.Container]:
    return chain(spec.init_containers, spec.containers)


def _container(container: v1.Container, *, host_network: bool) -> None:
    container.image_pull_policy = container.image_pull_policy or image_pull_policy(container.image)
    container.termination_message_path = container.termination_message_path or "/dev/termination-log"
    container.termination_message_policy = container.termination_message_policy or "File"
    container.resources.SetInParent()
    for port in container.ports:
        port.protocol = port.protocol or "TCP"
        if host_network and not port.host_port:
            port.host_port = port.container_port
    for name in ("liveness_probe", "readiness_probe", "startup_probe"):
        if container.HasField(name):
            _probe(getattr(container, name))
    if container.HasField("lifecycle"):
        for name in ("post_start", "pre_stop"):
            handler = getattr(container.lifecycle, name)
            if handler.HasField("http_get"):
                _http_get(handler.http_get)
    for variable in container.env:
        if variable.value_from.HasField("field_ref"):
            _field_ref(variable.value_from.field_ref)


def _probe(probe: v1.Probe) -> None:
    # In Kubernetes, too, a zero here is as good as absent.
    probe.timeout_seconds = probe.timeout_seconds or 1
    probe.period_seconds = probe.period_seconds or 10
    probe.success_threshold = probe.success_threshold or 1
    probe.failure_threshold = probe.failure_threshold or 3
    if not probe.HasField("initial_delay_seconds"):
        probe.initial_delay_seconds = 0
    if probe.HasField("http_get"):
        _http_get(probe.http_get)
    if probe.HasField("grpc") and not probe.grpc.HasField("service"):
        probe.grpc.service = ""


def _http_get(action: v1.HTTPGetAction) -> None:
    action.path = action.path or "/"
    action.scheme = action.scheme or "HTTP"


def _field_ref(reference: v1.ObjectFieldSelector) -> None:
    reference.api_version = reference.api_version or "v1"


def _volume(volume: v1.Volume) -> None:
    sources = [field.name for field, _ in volume.ListFields() if field.name != "name"]
    if not sources:
        volume.empty_dir.SetInParent()
    if volume.HasField("host_path") and not volume.host_path.HasField("type"):
        volume.host_path.type = ""
    for name in ("secret", "config_map", "downward_api", "projected"):
        source = getattr(volume, name)
        if volume.HasField(name) and not source.HasField("default_mode"):
            source.default_mode = _FILE_MODE
    for item in volume.downward_api.items if volume.HasField("downward_api") else ():
        if item.HasField("field_ref"):
            _field_ref(item.field_ref)
    for projection in volume.projected.sources if volume.HasField("projected") else ():
        _projection(projection)


def _projection(projection: v1.VolumeProjection) -> None:
    if projection.HasField("service_account_token"):
        token = projection.service_account_token
        if not token.HasField("expiration_seconds"):
            token.expiration_seconds = 3600
    if projection.HasField("downward_api"):
        for item in projection.downward_api.items:
            if item.HasField("field_ref"):
                _field_ref(item.field_ref)


def _service(service: v1.Service) -> None:
    spec = service.spec
    spec.type = spec.type or "ClusterIP"
    spec.session_affinity = spec.session_affinity or "None"
    if spec.session_affinity == "ClientIP" and not spec.session_affinity_config.client_ip.timeout_seconds:
        # Three hours.
        spec.session_affinity_config.client_ip.timeout_seconds = 10800
    for port in spec.ports:
        port.protocol = port.protocol or "TCP"
        if port.target_port.WhichOneof("value") is None or port.target_port in (_PORT_ZERO, _PORT_EMPTY):
            port.target_port.int = port.port
    if spec.type == "ExternalName":
        return
    spec.internal_traffic_policy = spec.internal_traffic_policy or "Cluster"
    if spec.type in ("NodePort", "LoadBalancer"):
        spec.external_traffic_policy = spec.external_traffic_policy or "Cluster"
    if spec.type == "LoadBalancer" and not spec.HasField("allocate_load_balancer_node_ports"):
        spec.allocate_load_balancer_node_ports = True
    spec.ip_family_policy = spec.ip_family_policy or "SingleStack"
    if not spec.ip_families:
        spec.ip_families.append("IPv4")


_PORT_ZERO: Final = v1.IntOrString(int=0)
_PORT_EMPTY: Final = v1.IntOrString(string="")


def _deployment(deployment: v1.Deployment) -> None:
    spec = deployment.spec
    if not spec.HasField("replicas"):
        spec.replicas = 1
    if not spec.HasField("revision_history_limit"):
        spec.revision_history_limit = 10
    if not spec.HasField("progress_deadline_seconds"):
        spec.progress_deadline_seconds = 600
    spec.strategy.type = spec.strategy.type or "RollingUpdate"
    if spec.strategy.type == "RollingUpdate":
        for name in ("max_unavailable", "max_surge"):
            share = getattr(spec.strategy.rolling_update, name)
            if share.WhichOneof("value") is None:
                share.string = "25%"
    _pod_spec(spec.template.spec)


def _replica_set(replica_set: v1.ReplicaSet) -> None:
    if not replica_set.spec.HasField("replicas"):
        replica_set.spec.replicas = 1
    _pod_spec(replica_set.spec.template.spec)


def _secret(secret: v1.Secret) -> None:
    secret.type = secret.type or "Opaque"
    for key, text in secret.string_data.items():
        secret.data[key] = text.encode()
    secret.string_data.clear()


def _namespace(namespace: v1.Namespace) -> None:
    # So that a selector can name a namespace.
    if namespace.metadata.name:
        namespace.metadata.labels["kubernetes.io/metadata.name"] = namespace.metadata.name
    namespace.status.phase = namespace.status.phase or "Active"


def _node(node: v1.Node) -> None:
    if not node.status.allocatable:
        for name, amount in node.status.capacity.items():
            node.status.allocatable[name].CopyFrom(amount)


def _endpoint_slice(endpoint_slice: v1.EndpointSlice) -> None:
    for port in endpoint_slice.ports:
        port.protocol = port.protocol or "TCP"
        if not port.HasField("name"):
            port.name = ""


_DEFAULTS: Final[Mapping[str, Callable[[Any], None]]] = {
    kinds.POD.name: _pod,
    kinds.SERVICE.name: _service,
    kinds.DEPLOYMENT.name: _deployment,
    kinds.REPLICA_SET.name: _replica_set,
    kinds.SECRET.name: _secret,
    kinds.NAMESPACE.name: _namespace,
    kinds.NODE.name: _node,
    kinds.ENDPOINT_SLICE.name: _endpoint_slice,
}
