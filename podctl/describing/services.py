"""`describe service`, with the addresses behind it."""

from __future__ import annotations

from collections.abc import Sequence

from podctl.describing.containers import port_text
from podctl.describing.page import NONE, annotation_lines, field, head, label_lines, mapping
from podwire import v1


def describe(service: v1.Service, slices: Sequence[v1.EndpointSlice]) -> str:
    """`slices` are those of the service."""
    spec = service.spec
    text = head(service.metadata) + label_lines(service.metadata) + annotation_lines(service.metadata)
    text += mapping("Selector", spec.selector) + field("Type", spec.type)
    text += field("IP Family Policy", spec.ip_family_policy or NONE)
    text += field("IP Families", ",".join(spec.ip_families) or NONE)
    text += field("IP", spec.cluster_ip) + field("IPs", ",".join(spec.cluster_ips) or NONE)
    if spec.external_ips:
        text += field("External IPs", ",".join(spec.external_ips))
    if spec.external_name:
        text += field("External Name", spec.external_name)
    for port in spec.ports:
        name, protocol = port.name or "<unset>", port.protocol or "TCP"
        text += field("Port", f"{name}\t{port.port}/{protocol}")
        text += field("TargetPort", f"{port_text(port.target_port)}/{protocol}")
        if port.node_port:
            text += field("NodePort", f"{name}\t{port.node_port}/{protocol}")
        text += field("Endpoints", endpoints(port.name, slices))
    text += field("Session Affinity", spec.session_affinity or "None")
    if spec.external_traffic_policy:
        text += field("External Traffic Policy", spec.external_traffic_policy)
    if spec.internal_traffic_policy:
        text += field("Internal Traffic Policy", spec.internal_traffic_policy)
    return text


def endpoints(port_name: str, slices: Sequence[v1.EndpointSlice]) -> str:
    """The ready addresses that a service's port leads to."""
    found = [
        f"[{address}]:{port.port}" if ":" in address else f"{address}:{port.port}"
        for each in slices
        for port in each.ports
        if port.name == port_name
        for endpoint in each.endpoints
        # Absent means ready.
        if endpoint.conditions.ready or not endpoint.conditions.HasField("ready")
        for address in endpoint.addresses
    ]
    return ",".join(sorted(found))
