"""Nodes and events."""

from __future__ import annotations

from podwire import v1
from podwire.validation import names
from podwire.validation.containers import not_negative
from podwire.validation.problems import Problems, forbidden, invalid, one_of, unique


def validate_node(node: v1.Node) -> Problems:
    if node.spec.pod_cidr:
        yield from names.cidr("spec.podCIDR", node.spec.pod_cidr)
    for i, taint in enumerate(node.spec.taints):
        path = f"spec.taints[{i}]"
        yield from names.qualified_name(f"{path}.key", taint.key)
        yield from names.label_value(f"{path}.value", taint.value)
        yield from one_of(f"{path}.effect", taint.effect, ("NoSchedule", "PreferNoSchedule", "NoExecute"))
    yield from unique(
        "spec.taints", ((f"[{i}]", f"{taint.key}:{taint.effect}") for i, taint in enumerate(node.spec.taints))
    )
    for part, amounts in (("capacity", node.status.capacity), ("allocatable", node.status.allocatable)):
        for name, amount in sorted(amounts.items()):
            yield from not_negative(f"status.{part}[{name}]", amount)


def validate_node_update(old: v1.Node, new: v1.Node) -> Problems:
    if old.spec.pod_cidr and old.spec.pod_cidr != new.spec.pod_cidr:
        yield invalid("spec.podCIDR", new.spec.pod_cidr, "node updates may not change it once it is set")
    if old.spec.provider_id and old.spec.provider_id != new.spec.provider_id:
        yield forbidden("spec.providerID", "node updates may not change it once it is set")


def validate_event(event: v1.Event) -> Problems:
    # Events about what has no namespace are in `default`, as in Kubernetes.
    expected = event.involved_object.namespace or "default"
    if event.metadata.namespace != expected:
        yield invalid("involvedObject.namespace", event.involved_object.namespace, "does not match event.namespace")
    yield from one_of("type", event.type, ("Normal", "Warning"))
