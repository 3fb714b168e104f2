"""What may not change of an object that is there, and what its metadata may hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from podwire import kinds, v1, validation
from podwire.kinds import Kind


def changed(kind: Kind, old: Any, change: Callable[[Any], object]) -> list[str]:
    """The errors of an update that makes `change`, as `path: message`."""
    new = kind.message()
    new.CopyFrom(old)
    change(new)
    return [str(error) for error in validation.validate_update(kind, old, new)]


def going(*finalizers: str) -> v1.ConfigMap:
    made = v1.ConfigMap(metadata=v1.ObjectMeta(name="a", namespace="default", finalizers=finalizers))
    made.metadata.deletion_timestamp.seconds = 1
    return made


SLICE = v1.EndpointSlice(metadata=v1.ObjectMeta(name="s", namespace="default"), address_type="IPv4")
NODE = v1.Node(metadata=v1.ObjectMeta(name="n"), spec=v1.NodeSpec(provider_id="cloud://1", pod_cidr="10.0.0.0/24"))
SECRET = v1.Secret(metadata=v1.ObjectMeta(name="s", namespace="default"), type="Opaque", immutable=True)
SERVICE = v1.Service(
    metadata=v1.ObjectMeta(name="s", namespace="default"),
    spec=v1.ServiceSpec(
        type="LoadBalancer", cluster_ip="10.0.0.1", ip_families=["IPv4"], load_balancer_class="example.com/a"
    ),
)
GATED = v1.Pod(
    metadata=v1.ObjectMeta(name="p", namespace="default"),
    spec=v1.PodSpec(scheduling_gates=[v1.PodSchedulingGate(name="a"), v1.PodSchedulingGate(name="b")]),
)


@pytest.mark.parametrize(
    ("kind", "old", "change", "path"),
    [
        (kinds.ENDPOINT_SLICE, SLICE, lambda o: setattr(o, "address_type", "IPv6"), "addressType"),
        (kinds.NODE, NODE, lambda o: setattr(o.spec, "provider_id", "cloud://2"), "spec.providerID"),
        (kinds.NODE, NODE, lambda o: setattr(o.spec, "pod_cidr", "10.0.1.0/24"), "spec.podCIDR"),
        (kinds.SECRET, SECRET, lambda o: setattr(o, "type", "example.com/x"), "type"),
        (kinds.SECRET, SECRET, lambda o: setattr(o, "immutable", False), "immutable"),
        (kinds.SECRET, SECRET, lambda o: o.data.update({"a": b"b"}), "data"),
        (kinds.SERVICE, SERVICE, lambda o: setattr(o.spec, "cluster_ip", "10.0.0.2"), "spec.clusterIP"),
        (kinds.SERVICE, SERVICE, lambda o: setattr(o.spec, "load_balancer_class", ""), "spec.loadBalancerClass"),
        (kinds.SERVICE, SERVICE, lambda o: o.spec.ip_families.insert(0, "IPv6"), "spec.ipFamilies[0]"),
        (kinds.POD, GATED, lambda o: o.spec.scheduling_gates.add(name="c"), "spec.schedulingGates"),
        (kinds.CONFIG_MAP, going(), lambda o: setattr(o.metadata, "name", "b"), "metadata.name"),
        (kinds.CONFIG_MAP, going(), lambda o: setattr(o.metadata, "namespace", "b"), "metadata.namespace"),
        (kinds.CONFIG_MAP, going("a/b"), lambda o: o.metadata.finalizers.append("c/d"), "metadata.finalizers"),
    ],
)
def test_what_is_immutable_is_refused_with_its_path(
    kind: Kind, old: Any, change: Callable[[Any], object], path: str
) -> None:
    (error,) = changed(kind, old, change)
    assert error.startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("kind", "old", "change"),
    [
        (kinds.POD, GATED, lambda o: o.spec.scheduling_gates.pop()),
        (kinds.SECRET, SECRET, lambda o: o.metadata.labels.update({"a": "b"})),
        (kinds.CONFIG_MAP, going("a/b", "c/d"), lambda o: o.metadata.finalizers.remove("a/b")),
        (kinds.SERVICE, SERVICE, lambda o: o.spec.ip_families.append("IPv6")),
    ],
)
def test_what_may_change_is_let_through(kind: Kind, old: Any, change: Callable[[Any], object]) -> None:
    assert changed(kind, old, change) == []


@pytest.mark.parametrize(
    ("metadata", "path"),
    [
        (v1.ObjectMeta(finalizers=["mine"]), "metadata.finalizers[0]"),
        (v1.ObjectMeta(finalizers=["example.com/a", "a b"]), "metadata.finalizers[1]"),
        (v1.ObjectMeta(finalizers=["orphan", "foregroundDeletion"]), "metadata.finalizers"),
        (
            v1.ObjectMeta(owner_references=[v1.OwnerReference(api_version="v1", kind="Event", name="e", uid="u")]),
            "metadata.ownerReferences[0]",
        ),
        (
            v1.ObjectMeta(owner_references=[v1.OwnerReference(api_version="v1", kind="Pod", name="e")]),
            "metadata.ownerReferences[0].uid",
        ),
    ],
)
def test_finalizers_and_owners_are_checked(metadata: v1.ObjectMeta, path: str) -> None:
    metadata.name, metadata.namespace = "a", "default"
    paths = {error.path for error in validation.validate(kinds.CONFIG_MAP, v1.ConfigMap(metadata=metadata))}
    assert path in paths


def test_the_finalizers_of_kubernetes_itself_need_no_domain() -> None:
    for finalizer in ("orphan", "foregroundDeletion", "kubernetes", "example.com/a"):
        made = v1.ConfigMap(metadata=v1.ObjectMeta(name="a", namespace="default", finalizers=[finalizer]))
        assert validation.validate(kinds.CONFIG_MAP, made) == []
