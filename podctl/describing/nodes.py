"""`describe node`, with the pods on it and what they ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from podctl.columns import node_roles
from podctl.describing.page import NONE, annotation_lines, created, field, head, label_lines, rows
from podctl.durations import age, date
from podwire import quantity, v1


def describe(node: v1.Node, pods: Sequence[v1.Pod], now: float) -> str:
    """`pods` are all that are bound to the node."""
    status = node.status
    text = (
        head(node.metadata)
        + field("Roles", node_roles(node))
        + label_lines(node.metadata)
        + annotation_lines(node.metadata)
    )
    text += created(node.metadata)
    taints = [f"{taint.key}={taint.value}:{taint.effect}".replace("=:", ":") for taint in node.spec.taints] or [NONE]
    text += field("Taints", taints[0]) + "".join(f"\t{taint}\n" for taint in taints[1:])
    text += field("Unschedulable", str(node.spec.unschedulable).lower())
    if status.conditions:
        headers = ("Type", "Status", "LastHeartbeatTime", "LastTransitionTime", "Reason", "Message")
        text += "Conditions:\n" + rows(
            headers,
            [
                (c.type, c.status, date(c.last_heartbeat_time), date(c.last_transition_time), c.reason, c.message)
                for c in status.conditions
            ],
        )
    text += "Addresses:\n" + "".join(field(address.type, address.address, indent=1) for address in status.addresses)
    text += _amounts("Capacity", status.capacity) + _amounts("Allocatable", status.allocatable)
    text += _system(status.node_info)
    if node.spec.pod_cidr:
        text += field("PodCIDR", node.spec.pod_cidr) + field("PodCIDRs", ",".join(node.spec.pod_cidrs))
    running = [pod for pod in pods if pod.status.phase not in ("Succeeded", "Failed")]
    return text + _pods(running, now) + _allocated(running, status.allocatable)


def _amounts(name: str, amounts: Mapping[str, v1.Quantity]) -> str:
    return f"{name}:\n" + "".join(field(key, amounts[key].string, indent=1) for key in sorted(amounts))


def _system(info: v1.NodeSystemInfo) -> str:
    lines = (
        ("Machine ID", info.machine_id),
        ("System UUID", info.system_uuid),
        ("Boot ID", info.boot_id),
        ("Kernel Version", info.kernel_version),
        ("OS Image", info.os_image),
        ("Operating System", info.operating_system),
        ("Architecture", info.architecture),
        ("Container Runtime Version", info.container_runtime_version),
        ("Agent Version", info.kubelet_version),
    )
    return "System Info:\n" + "".join(field(name, value, indent=1) for name, value in lines)


def _pods(pods: Sequence[v1.Pod], now: float) -> str:
    text = field("Non-terminated Pods", f"({len(pods)} in total)")
    headers = ("Namespace", "Name", "CPU Requests", "CPU Limits", "Memory Requests", "Memory Limits", "Age")
    lines = [
        (
            pod.metadata.namespace,
            pod.metadata.name,
            *(_text(total([pod], name, which), name) for name in ("cpu", "memory") for which in ("requests", "limits")),
            age(pod.metadata.creation_timestamp, now),
        )
        for pod in sorted(pods, key=lambda pod: (pod.metadata.namespace, pod.metadata.name))
    ]
    return text + rows(headers, lines)


def _allocated(pods: Sequence[v1.Pod], allocatable: Mapping[str, v1.Quantity]) -> str:
    lines = []
    for name in ("cpu", "memory"):
        capacity = quantity.parse(allocatable[name].string) if name in allocatable else Decimal(0)
        amounts = (total(pods, name, which) for which in ("requests", "limits"))
        lines.append((name, *(f"{_text(amount, name)} ({_share(amount, capacity)})" for amount in amounts)))
    return "Allocated resources:\n" + rows(("Resource", "Requests", "Limits"), lines)


def total(pods: Sequence[v1.Pod], resource: str, which: str) -> Decimal:
    """What the pods ask for: the sum of their containers, or the largest init container where that is more."""
    sum_ = Decimal(0)
    for pod in pods:
        containers = sum((_amount(each, resource, which) for each in pod.spec.containers), Decimal(0))
        init = max((_amount(each, resource, which) for each in pod.spec.init_containers), default=Decimal(0))
        sum_ += max(containers, init)
    return sum_


def _amount(container: v1.Container, resource: str, which: str) -> Decimal:
    amounts = getattr(container.resources, which)
    return quantity.parse(amounts[resource].string) if resource in amounts else Decimal(0)


def _text(amount: Decimal, resource: str) -> str:
    if resource == "cpu":
        return f"{int(amount * 1000)}m" if amount % 1 else str(int(amount))
    for unit, size in (("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)):
        if amount and amount % size == 0:
            return f"{int(amount) // size}{unit}"
    return str(int(amount))


def _share(amount: Decimal, capacity: Decimal) -> str:
    return f"{int(amount * 100 / capacity) if capacity else 0}%"
