"""Which endpoints a service has: its pods, whether each takes traffic, and the ports that it is reached at. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from controlplane.controllers.pod_state import is_finished, is_ready, is_terminating
from podwire import v1


class Port(NamedTuple):
    """A port of the service as one pod serves it."""

    name: str
    protocol: str
    number: int
    app_protocol: str

    def message(self) -> v1.EndpointPort:
        port = v1.EndpointPort(name=self.name, protocol=self.protocol, port=self.number)
        if self.app_protocol:
            port.app_protocol = self.app_protocol
        return port


class Group(NamedTuple):
    """What the endpoints of one slice have in common. Pods that name different numbers for one port are in several."""

    address_type: str
    ports: tuple[Port, ...]


# By the pod's uid.
Endpoints = Mapping[Group, Mapping[str, v1.Endpoint]]


def endpoints_of(service: v1.Service, pods: Sequence[v1.Pod], node_is_ready: Callable[[str], bool]) -> Endpoints:
    """`pods` are those that the service's selector selects.

    Pods of a node that is not ready take no traffic while others can. Where there are no others they keep it: a silent
    agent may have died alone, and refusing every request helps nobody.
    """
    trusted = {pod.spec.node_name for pod in pods if node_is_ready(pod.spec.node_name)}
    if not any(takes_traffic(pod) and pod.spec.node_name in trusted for pod in pods):
        trusted = {pod.spec.node_name for pod in pods}
    groups: defaultdict[Group, dict[str, v1.Endpoint]] = defaultdict(dict)
    for pod in pods:
        if not pod.status.pod_ip or is_finished(pod):
            continue
        ports = ports_of(service, pod)
        if service.spec.ports and not ports:
            # It serves none of the service's named ports.
            continue
        family = "IPv6" if ":" in pod.status.pod_ip else "IPv4"
        endpoint = endpoint_of(service, pod, node_is_ready=pod.spec.node_name in trusted)
        groups[Group(family, ports)][pod.metadata.uid] = endpoint
    return groups


def takes_traffic(pod: v1.Pod) -> bool:
    return is_ready(pod) and not is_terminating(pod)


def endpoint_of(service: v1.Service, pod: v1.Pod, *, node_is_ready: bool) -> v1.Endpoint:
    """Ready: takes new connections. Serving: as ready, also while it is being stopped (KEP-1672)."""
    serving = is_ready(pod) and node_is_ready
    terminating = is_terminating(pod)
    endpoint = v1.Endpoint(
        addresses=[pod.status.pod_ip],
        conditions=v1.EndpointConditions(
            ready=service.spec.publish_not_ready_addresses or (serving and not terminating),
            serving=serving,
            terminating=terminating,
        ),
        target_ref=v1.ObjectReference(
            kind="Pod", namespace=pod.metadata.namespace, name=pod.metadata.name, uid=pod.metadata.uid
        ),
        node_name=pod.spec.node_name,
    )
    if pod.spec.hostname and pod.spec.subdomain == service.metadata.name:
        endpoint.hostname = pod.spec.hostname
    return endpoint


def ports_of(service: v1.Service, pod: v1.Pod) -> tuple[Port, ...]:
    """The service's ports that the pod has, with the numbers at which it has them."""
    ports = []
    for port in service.spec.ports:
        protocol = port.protocol or "TCP"
        number = _target(port, protocol, pod)
        if number:
            ports.append(Port(port.name, protocol, number, port.app_protocol))
    return tuple(ports)


def _target(port: v1.ServicePort, protocol: str, pod: v1.Pod) -> int:
    """0: the pod has no port of that name."""
    if port.target_port.WhichOneof("value") != "string":
        return port.target_port.int or port.port
    for container in pod.spec.containers:
        for offered in container.ports:
            if offered.name == port.target_port.string and (offered.protocol or "TCP") == protocol:
                return offered.container_port
    return 0
