"""What goes with a service's type: fields that an old type brought leave with it, where the client did not change them.

As in Kubernetes (dropTypeDependentFields), so that `type: NodePort` can become `type: ClusterIP` by that one line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from podwire import v1

_EXTERNAL: Final = frozenset({"NodePort", "LoadBalancer"})


def drop_what_the_old_type_brought(old: v1.ServiceSpec, new: v1.ServiceSpec) -> None:
    """Clears in `new` what its type has no use for and `old` had in the same way."""
    if _left(old, new, lambda type_: type_ != "ExternalName"):
        if new.cluster_ip == old.cluster_ip:
            new.cluster_ip = ""
            del new.cluster_ips[:]
        for name in ("ip_families", "ip_family_policy", "internal_traffic_policy"):
            _clear_where_equal(old, new, name)
    if _left(old, new, lambda type_: type_ in _EXTERNAL):
        before = {port.node_port for port in old.ports}
        for port in new.ports:
            if port.node_port in before:
                port.ClearField("node_port")
        _clear_where_equal(old, new, "external_traffic_policy")
    if _left(old, new, lambda type_: type_ == "LoadBalancer"):
        for name in ("allocate_load_balancer_node_ports", "load_balancer_class", "health_check_node_port"):
            _clear_where_equal(old, new, name)


def _left(old: v1.ServiceSpec, new: v1.ServiceSpec, has: Callable[[str], bool]) -> bool:
    return has(old.type) and not has(new.type or "ClusterIP")


def _clear_where_equal(old: v1.ServiceSpec, new: v1.ServiceSpec, name: str) -> None:
    if getattr(old, name) == getattr(new, name):
        new.ClearField(name)  # type: ignore[arg-type]
