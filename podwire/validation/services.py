"""Services and endpoint slices.

Whether an address or a node port is free, and within the cluster's ranges, is for the server to say: it allocates them.
"""

from __future__ import annotations

from typing import Final

from podwire import v1
from podwire.validation import names
from podwire.validation.containers import PROTOCOLS
from podwire.validation.metadata import labels
from podwire.validation.problems import (
    Problems,
    between,
    fields_of,
    forbidden,
    invalid,
    one_of,
    required,
    too_long,
    unique,
)

_TYPES: Final = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_POLICIES: Final = ("Cluster", "Local")
# A day.
_LONGEST_AFFINITY: Final = 86400
_MOST_ENDPOINTS: Final = 1000
_MOST_ADDRESSES: Final = 100
_MOST_PORTS: Final = 20_000


def validate_service(service: v1.Service) -> Problems:
    spec, path = service.spec, "spec"
    yield from one_of(f"{path}.type", spec.type, _TYPES)
    headless = spec.cluster_ip == "None"
    if not spec.ports and not headless and spec.type != "ExternalName":
        yield required(f"{path}.ports")
    yield from _ports(f"{path}.ports", spec)
    yield from labels(f"{path}.selector", spec.selector)
    yield from _addresses(path, spec, headless=headless)
    yield from _affinity(path, spec)
    yield from _policies(path, spec)


def validate_service_update(old: v1.Service, new: v1.Service) -> Problems:
    if (
        old.spec.type == new.spec.type == "LoadBalancer"
        and old.spec.load_balancer_class != new.spec.load_balancer_class
    ):
        yield invalid("spec.loadBalancerClass", new.spec.load_balancer_class, "may not change once set")
    if "ExternalName" in (old.spec.type, new.spec.type) or not old.spec.cluster_ip:
        return
    if old.spec.cluster_ip != new.spec.cluster_ip:
        yield invalid("spec.clusterIP", new.spec.cluster_ip, "field is immutable")
    if old.spec.ip_families[:1] != new.spec.ip_families[:1]:
        yield invalid("spec.ipFamilies[0]", ", ".join(new.spec.ip_families), "may not change once set")


def _ports(path: str, spec: v1.ServiceSpec) -> Problems:
    for i, port in enumerate(spec.ports):
        inner = f"{path}[{i}]"
        if port.name:
            yield from names.dns_label(f"{inner}.name", port.name)
        elif len(spec.ports) > 1:
            yield required(f"{inner}.name", "every port of a service with several ports needs a name")
        if port.HasField("port"):
            yield from names.port_number(f"{inner}.port", port.port)
        else:
            yield required(f"{inner}.port")
        yield from one_of(f"{inner}.protocol", port.protocol, PROTOCOLS)
        yield from names.port(f"{inner}.targetPort", port.target_port)
        if port.node_port:
            if spec.type == "ClusterIP":
                yield forbidden(f"{inner}.nodePort", "may not be used when `type` is 'ClusterIP'")
            yield from names.port_number(f"{inner}.nodePort", port.node_port)
    numbered = list(enumerate(spec.ports))
    yield from unique(path, ((f"[{i}].name", port.name) for i, port in numbered))
    yield from unique(path, ((f"[{i}]", f"{port.port}/{port.protocol}") for i, port in numbered))
    node_ports = ((f"[{i}].nodePort", f"{p.node_port}/{p.protocol}" if p.node_port else "") for i, p in numbered)
    yield from unique(path, node_ports)


def _addresses(path: str, spec: v1.ServiceSpec, *, headless: bool) -> Problems:
    inner = f"{path}.clusterIP"
    if spec.type == "ExternalName":
        yield from names.dns_subdomain(f"{path}.externalName", spec.external_name.rstrip("."))
        if spec.cluster_ip and not headless:
            yield forbidden(inner, "may not be set when `type` is 'ExternalName'")
    elif headless and spec.type != "ClusterIP":
        yield invalid(inner, spec.cluster_ip, f"may not be set to 'None' for {spec.type} services")
    elif spec.cluster_ip and not headless:
        yield from names.ip_address(inner, spec.cluster_ip)
    if spec.cluster_ips and spec.cluster_ips[0] != spec.cluster_ip:
        yield invalid(f"{path}.clusterIPs", spec.cluster_ips[0], "first value must match `clusterIP`")
    for i, address in enumerate(spec.external_ips):
        yield from names.ip_address(f"{path}.externalIPs[{i}]", address)
    for i, source in enumerate(spec.load_balancer_source_ranges):
        yield from names.cidr(f"{path}.loadBalancerSourceRanges[{i}]", source)
    for i, family in enumerate(spec.ip_families):
        yield from one_of(f"{path}.ipFamilies[{i}]", family, ("IPv4", "IPv6"))
    if spec.ip_family_policy:
        policies = ("SingleStack", "PreferDualStack", "RequireDualStack")
        yield from one_of(f"{path}.ipFamilyPolicy", spec.ip_family_policy, policies)


def _affinity(path: str, spec: v1.ServiceSpec) -> Problems:
    yield from one_of(f"{path}.sessionAffinity", spec.session_affinity, ("ClientIP", "None"))
    if spec.session_affinity == "ClientIP":
        timeout = spec.session_affinity_config.client_ip.timeout_seconds
        yield from between(f"{path}.sessionAffinityConfig.clientIP.timeoutSeconds", timeout, 1, _LONGEST_AFFINITY)
    elif spec.HasField("session_affinity_config"):
        yield forbidden(f"{path}.sessionAffinityConfig", "must not be set when session affinity is None")


def _policies(path: str, spec: v1.ServiceSpec) -> Problems:
    if spec.external_traffic_policy:
        yield from one_of(f"{path}.externalTrafficPolicy", spec.external_traffic_policy, _POLICIES)
        if spec.type not in ("NodePort", "LoadBalancer") and not spec.external_ips:
            yield invalid(
                f"{path}.externalTrafficPolicy",
                spec.external_traffic_policy,
                "may only be set for externally-accessible services",
            )
    if spec.internal_traffic_policy:
        yield from one_of(f"{path}.internalTrafficPolicy", spec.internal_traffic_policy, _POLICIES)


def validate_endpoint_slice(endpoint_slice: v1.EndpointSlice) -> Problems:
    yield from one_of("addressType", endpoint_slice.address_type, ("IPv4", "IPv6", "FQDN"))
    if len(endpoint_slice.endpoints) > _MOST_ENDPOINTS:
        yield too_long("endpoints", f"must have at most {_MOST_ENDPOINTS} items")
    for i, endpoint in enumerate(endpoint_slice.endpoints):
        path = f"endpoints[{i}].addresses"
        if not endpoint.addresses:
            yield required(path, "must contain at least 1 address")
        if len(endpoint.addresses) > _MOST_ADDRESSES:
            yield too_long(path, f"must have at most {_MOST_ADDRESSES} items")
        check = names.dns_subdomain if endpoint_slice.address_type == "FQDN" else names.ip_address
        for j, address in enumerate(endpoint.addresses):
            yield from check(f"{path}[{j}]", address)
    if len(endpoint_slice.ports) > _MOST_PORTS:
        yield too_long("ports", f"must have at most {_MOST_PORTS} items")
    for i, port in enumerate(endpoint_slice.ports):
        yield from one_of(f"ports[{i}].protocol", port.protocol, PROTOCOLS)
        if "port" in fields_of(port):
            yield from names.port_number(f"ports[{i}].port", port.port)
    yield from unique("ports", ((f"[{i}].name", port.name) for i, port in enumerate(endpoint_slice.ports)))


def validate_endpoint_slice_update(old: v1.EndpointSlice, new: v1.EndpointSlice) -> Problems:
    if old.address_type != new.address_type:
        yield invalid("addressType", new.address_type, "field is immutable")
