"""The columns of every kind, as kubectl has them. A kind without an entry has NAME and AGE."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from podctl.durations import age
from podctl.naming import qualified
from podctl.pod_summary import summarise
from podwire import v1
from podwire.kinds import Kind
from podwire.selectors import LabelSelector

NONE: Final = "<none>"
# get -o wide shows this many endpoints of a slice; get shows three, as kubectl does.
_ENDPOINTS_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class Column:
    """`value` is given the object and the time; a wide column is shown with -o wide only."""

    header: str
    value: Callable[[Any, float], str]
    wide: bool = False


def columns_of(kind: Kind, *, wide: bool = False) -> list[Column]:
    return [column for column in COLUMNS.get(kind.name, _PLAIN) if wide or not column.wide]


def label_columns(labels: Mapping[str, str]) -> str:
    """All labels in one cell, as --show-labels prints them."""
    return _join(f"{key}={value}" for key, value in sorted(labels.items()))


def _name(obj: Any, now: float) -> str:
    return str(obj.metadata.name)


def _age(obj: Any, now: float) -> str:
    return age(obj.metadata.creation_timestamp, now)


_NAME: Final = Column("NAME", _name)
_AGE: Final = Column("AGE", _age)
_PLAIN: Final = (_NAME, _AGE)


def _join(texts: Iterable[str]) -> str:
    return ",".join(texts) or NONE


def _external_addresses(service: v1.Service, now: float) -> str:
    spec = service.spec
    if spec.type == "ExternalName":
        return spec.external_name
    given = [ingress.ip or ingress.hostname for ingress in service.status.load_balancer.ingress]
    addresses = [*given, *spec.external_ips]
    return ",".join(addresses) or ("<pending>" if spec.type == "LoadBalancer" else NONE)


def service_port(port: v1.ServicePort) -> str:
    node_port = f":{port.node_port}" if port.node_port else ""
    return f"{port.port}{node_port}/{port.protocol or 'TCP'}"


def node_status(node: v1.Node) -> str:
    ready = next((condition.status for condition in node.status.conditions if condition.type == "Ready"), "")
    words = [{"True": "Ready", "False": "NotReady"}.get(ready, "Unknown" if not ready else "NotReady")]
    if node.spec.unschedulable:
        words.append("SchedulingDisabled")
    return ",".join(words)


def node_roles(node: v1.Node) -> str:
    prefix = "node-role.kubernetes.io/"
    return _join(sorted(key.removeprefix(prefix) for key in node.metadata.labels if key.startswith(prefix)))


def _node_address(type_: str) -> Callable[[v1.Node, float], str]:
    def address(node: v1.Node, now: float) -> str:
        return next((each.address for each in node.status.addresses if each.type == type_), NONE)

    return address


def _slice_ports(endpoints: v1.EndpointSlice, now: float) -> str:
    return _join(str(port.port) if port.HasField("port") else "*" for port in endpoints.ports)


def _slice_addresses(limit: int | None) -> Callable[[v1.EndpointSlice, float], str]:
    def addresses(endpoints: v1.EndpointSlice, now: float) -> str:
        all_of_them = [address for endpoint in endpoints.endpoints for address in endpoint.addresses]
        shown = all_of_them[:limit]
        more = len(all_of_them) - len(shown)
        return _join(shown) + (f" + {more} more..." if more else "")

    return addresses


def _workload_columns(template: Callable[[Any], v1.PodTemplateSpec]) -> tuple[Column, ...]:
    return (
        Column("CONTAINERS", lambda o, now: _join(c.name for c in template(o).spec.containers), wide=True),
        Column("IMAGES", lambda o, now: _join(c.image for c in template(o).spec.containers), wide=True),
        Column("SELECTOR", lambda o, now: str(LabelSelector.from_message(o.spec.selector)) or NONE, wide=True),
    )


def event_object(event: v1.Event) -> str:
    return f"{event.involved_object.kind.lower()}/{event.involved_object.name}"


def event_last_seen(event: v1.Event) -> Any:
    """The time of the last occurrence."""
    if event.series.last_observed_time.seconds:
        return event.series.last_observed_time
    return event.last_timestamp if event.last_timestamp.seconds else event.event_time


def event_order(event: v1.Event) -> tuple[int, int]:
    """Sorts events as they happened; those of one second, as they were written."""
    return event_last_seen(event).ToNanoseconds(), int(event.metadata.resource_version or 0)


def event_first_seen(event: v1.Event) -> Any:
    return event.first_timestamp if event.first_timestamp.seconds else event.event_time


def event_count(event: v1.Event) -> int:
    return event.series.count or event.count or 1


def event_age(event: v1.Event, now: float) -> str:
    """`2s`, or of one that repeats `2s (x771 over 42m)`."""
    last = age(event_last_seen(event), now)
    count = event_count(event)
    return last if count < 2 else f"{last} (x{count} over {age(event_first_seen(event), now)})"


def _event_source(event: v1.Event, now: float) -> str:
    parts = [event.source.component or event.reporting_component, event.source.host]
    return ", ".join(part for part in parts if part)


COLUMNS: Final[Mapping[str, Sequence[Column]]] = {
    "Pod": (
        _NAME,
        Column("READY", lambda o, now: f"{(s := summarise(o, now)).ready}/{s.containers}"),
        Column("STATUS", lambda o, now: summarise(o, now).status),
        Column("RESTARTS", lambda o, now: summarise(o, now).restarts),
        _AGE,
        Column("IP", lambda o, now: o.status.pod_ip or NONE, wide=True),
        Column("NODE", lambda o, now: o.spec.node_name or NONE, wide=True),
        Column("NOMINATED NODE", lambda o, now: o.status.nominated_node_name or NONE, wide=True),
        Column("READINESS GATES", lambda o, now: _readiness_gates(o), wide=True),
    ),
    "Service": (
        _NAME,
        Column("TYPE", lambda o, now: o.spec.type),
        Column("CLUSTER-IP", lambda o, now: o.spec.cluster_ip or NONE),
        Column("EXTERNAL-IP", _external_addresses),
        Column("PORT(S)", lambda o, now: _join(map(service_port, o.spec.ports))),
        _AGE,
        Column("SELECTOR", lambda o, now: label_columns(o.spec.selector), wide=True),
    ),
    "Deployment": (
        _NAME,
        Column("READY", lambda o, now: f"{o.status.ready_replicas}/{o.spec.replicas}"),
        Column("UP-TO-DATE", lambda o, now: str(o.status.updated_replicas)),
        Column("AVAILABLE", lambda o, now: str(o.status.available_replicas)),
        _AGE,
        *_workload_columns(lambda o: o.spec.template),
    ),
    "ReplicaSet": (
        _NAME,
        Column("DESIRED", lambda o, now: str(o.spec.replicas)),
        Column("CURRENT", lambda o, now: str(o.status.replicas)),
        Column("READY", lambda o, now: str(o.status.ready_replicas)),
        _AGE,
        *_workload_columns(lambda o: o.spec.template),
    ),
    "Node": (
        _NAME,
        Column("STATUS", lambda o, now: node_status(o)),
        Column("ROLES", lambda o, now: node_roles(o)),
        _AGE,
        Column("VERSION", lambda o, now: o.status.node_info.kubelet_version),
        Column("INTERNAL-IP", _node_address("InternalIP"), wide=True),
        Column("EXTERNAL-IP", _node_address("ExternalIP"), wide=True),
        Column("OS-IMAGE", lambda o, now: o.status.node_info.os_image or "<unknown>", wide=True),
        Column("KERNEL-VERSION", lambda o, now: o.status.node_info.kernel_version or "<unknown>", wide=True),
        Column(
            "CONTAINER-RUNTIME", lambda o, now: o.status.node_info.container_runtime_version or "<unknown>", wide=True
        ),
    ),
    "EndpointSlice": (
        _NAME,
        Column("ADDRESSTYPE", lambda o, now: o.address_type),
        Column("PORTS", _slice_ports),
        Column("ENDPOINTS", _slice_addresses(_ENDPOINTS_SHOWN)),
        _AGE,
    ),
    "Namespace": (_NAME, Column("STATUS", lambda o, now: o.status.phase), _AGE),
    "ConfigMap": (_NAME, Column("DATA", lambda o, now: str(len(o.data) + len(o.binary_data))), _AGE),
    "Secret": (
        _NAME,
        Column("TYPE", lambda o, now: o.type),
        Column("DATA", lambda o, now: str(len(o.data))),
        _AGE,
    ),
    "Event": (
        Column("LAST SEEN", lambda o, now: age(event_last_seen(o), now)),
        Column("TYPE", lambda o, now: o.type),
        Column("REASON", lambda o, now: o.reason),
        Column("OBJECT", lambda o, now: event_object(o)),
        Column("SUBOBJECT", lambda o, now: o.involved_object.field_path, wide=True),
        Column("SOURCE", _event_source, wide=True),
        Column("MESSAGE", lambda o, now: o.message.strip()),
        Column("FIRST SEEN", lambda o, now: age(event_first_seen(o), now), wide=True),
        Column("COUNT", lambda o, now: str(event_count(o)), wide=True),
        Column("NAME", _name, wide=True),
    ),
    "NodeSession": (
        _NAME,
        Column("REPLICA", lambda o, now: o.spec.replica_address),
        Column("LEASE", lambda o, now: f"{o.spec.lease_id:x}"),
        _AGE,
    ),
}


def _readiness_gates(pod: v1.Pod) -> str:
    gates = pod.spec.readiness_gates
    conditions = {condition.type: condition.status for condition in pod.status.conditions}
    passed = sum(conditions.get(gate.condition_type) == "True" for gate in gates)
    return f"{passed}/{len(gates)}" if gates else NONE


def headers(columns: Sequence[Column]) -> list[str]:
    return [column.header for column in columns]


def cells(kind: Kind, columns: Sequence[Column], obj: Any, now: float, *, qualify: bool = False) -> list[str]:
    """The object's row; with `qualify` its name is `pod/web`, for tables of several kinds."""
    row = [column.value(obj, now) for column in columns]
    if qualify:
        name = next(index for index, column in enumerate(columns) if column.header == "NAME")
        row[name] = qualified(kind, row[name])
    return row
