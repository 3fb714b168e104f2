"""What the scheduler knows of the nodes: what each offers, and what the pods on it have taken. Pure.

The load of a node is kept up to date pod by pod, so that a decision does not add up every pod of the cluster. A pod
counts from the moment the scheduler has chosen its node, before the API has bound it: the next decision must see it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from controlplane.scheduler.demand import NOTHING, Demand, HostPort, Resources, demand_of, resources
from podwire import quantity, v1

# Kubernetes' default for a node that does not say (kubelet --max-pods).
_MAX_PODS: Final = 110
_FINISHED: Final = ("Succeeded", "Failed")
_BLOCKING_EFFECTS: Final = ("NoSchedule", "NoExecute")


@dataclass(frozen=True, slots=True)
class Taint:
    key: str
    value: str
    effect: str

    def __str__(self) -> str:
        return f"{{{self.key}: {self.value}}}"


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """Of a node, what a decision depends on. Two equal facts mean that nothing changed for the scheduler."""

    name: str
    labels: Mapping[str, str]
    # Only those that keep pods away.
    taints: tuple[Taint, ...]
    unschedulable: bool
    ready: bool
    allocatable: Resources
    max_pods: int


def facts_of(node: v1.Node) -> NodeFacts:
    allocatable = node.status.allocatable
    return NodeFacts(
        name=node.metadata.name,
        labels=dict(node.metadata.labels),
        taints=tuple(
            Taint(taint.key, taint.value, taint.effect)
            for taint in node.spec.taints
            if taint.effect in _BLOCKING_EFFECTS
        ),
        unschedulable=node.spec.unschedulable,
        ready=any(condition.type == "Ready" and condition.status == "True" for condition in node.status.conditions),
        allocatable=resources(allocatable, NOTHING),
        max_pods=int(quantity.parse(allocatable["pods"])) if "pods" in allocatable else _MAX_PODS,
    )


@dataclass(slots=True)
class Load:
    """What the pods of one node have taken together."""

    pods: int = 0
    requests: Resources = NOTHING
    weight: Resources = NOTHING
    host_ports: dict[HostPort, int] = field(default_factory=dict)

    def add(self, demand: Demand) -> None:
        self.pods += 1
        self.requests = self.requests.plus(demand.requests)
        self.weight = self.weight.plus(demand.weight)
        for port in demand.host_ports:
            self.host_ports[port] = self.host_ports.get(port, 0) + 1

    def remove(self, demand: Demand) -> None:
        self.pods -= 1
        self.requests = self.requests.minus(demand.requests)
        self.weight = self.weight.minus(demand.weight)
        for port in demand.host_ports:
            self.host_ports[port] -= 1
            if not self.host_ports[port]:
                del self.host_ports[port]


class Cluster:
    def __init__(self) -> None:
        self._nodes: dict[str, NodeFacts] = {}
        # By node name, also of nodes that are not known (yet): their pods may be heard of first.
        self._loads: dict[str, Load] = {}
        self._placed: dict[str, tuple[str, Demand]] = {}

    def nodes(self) -> Iterator[tuple[NodeFacts, Load]]:
        for name, facts in self._nodes.items():
            yield facts, self._loads.get(name) or Load()

    def has(self, uid: str) -> bool:
        """Whether the pod has been placed."""
        return uid in self._placed

    def set_node(self, facts: NodeFacts) -> bool:
        """Whether anything changed."""
        if self._nodes.get(facts.name) == facts:
            return False
        self._nodes[facts.name] = facts
        return True

    def remove_node(self, name: str) -> None:
        self._nodes.pop(name, None)

    def place(self, pod: v1.Pod, node: str, demand: Demand | None = None) -> None:
        """The pod is, or is about to be, on `node`: once for each uid, however often it is told."""
        uid = pod.metadata.uid
        placed = self._placed.get(uid)
        if placed is not None:
            if placed[0] == node:
                return
            self.remove(uid)
        demand = demand or demand_of(pod)
        self._placed[uid] = (node, demand)
        self._loads.setdefault(node, Load()).add(demand)

    def remove(self, uid: str) -> bool:
        """The pod takes nothing any more; whether it took something."""
        placed = self._placed.pop(uid, None)
        if placed is None:
            return False
        node, demand = placed
        load = self._loads[node]
        load.remove(demand)
        if not load.pods:
            del self._loads[node]
        return True


def takes_room(pod: v1.Pod) -> bool:
    """Whether the pod is on a node and uses it: one that is being stopped still does, a finished one does not."""
    return bool(pod.spec.node_name) and pod.status.phase not in _FINISHED
