"""Which node a pod goes to: filters say which nodes can run it, a score says which of those is best. Pure.

The least loaded node wins (Kubernetes' LeastAllocated over cpu and memory, with equal weights), then the one with fewer
pods, then the first name: the same cluster and pod give the same answer. Reasons are worded as in Kubernetes, because
people search for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from controlplane.scheduler.cluster import Cluster, Load, NodeFacts, Taint
from controlplane.scheduler.demand import Demand, HostPort, Resources
from podwire import v1

_CORDONED: Final = Taint("node.kubernetes.io/unschedulable", "", "NoSchedule")


@dataclass(frozen=True, slots=True)
class Decision:
    """`node` is where the pod goes; empty where it fits nowhere, and then `reason` says why."""

    node: str
    reason: str = ""


def decide(pod: v1.Pod, demand: Demand, cluster: Cluster) -> Decision:
    best: tuple[float, int, str] | None = None
    refusals: Counter[str] = Counter()
    total = 0
    for facts, load in cluster.nodes():
        total += 1
        reasons = refuse(pod, demand, facts, load)
        if reasons:
            refusals.update(reasons)
            continue
        rank = (-free_share(demand, facts, load), load.pods, facts.name)
        if best is None or rank < best:
            best = rank
    if best is not None:
        return Decision(best[2])
    return Decision("", _unschedulable(total, refusals))


def refuse(pod: v1.Pod, demand: Demand, node: NodeFacts, load: Load) -> tuple[str, ...]:
    """Why the node cannot run the pod; empty: it can. Of several causes the first counts, of resources each."""
    if not node.ready:
        return ("node(s) were not ready",)
    if node.unschedulable and not _tolerated(_CORDONED, pod.spec.tolerations):
        return ("node(s) were unschedulable",)
    for taint in node.taints:
        if not _tolerated(taint, pod.spec.tolerations):
            return (f"node(s) had untolerated taint {taint}",)
    if any(node.labels.get(key) != value for key, value in pod.spec.node_selector.items()):
        return ("node(s) didn't match Pod's node affinity/selector",)
    if _ports_taken(demand.host_ports, load.host_ports):
        return ("node(s) didn't have free ports for the requested pod ports",)
    return tuple(_insufficient(demand.requests, node, load))


def free_share(demand: Demand, node: NodeFacts, load: Load) -> float:
    """The share of the node, 0 to 1, that would be free with the pod on it: the mean of cpu and memory."""
    taken = load.weight.plus(demand.weight)
    return (_free(taken.cpu_milli, node.allocatable.cpu_milli) + _free(taken.memory, node.allocatable.memory)) / len(
        Resources._fields
    )


def _free(taken: int, allocatable: int) -> float:
    return max(0.0, 1 - taken / allocatable) if allocatable else 0.0


def _insufficient(requests: Resources, node: NodeFacts, load: Load) -> Iterable[str]:
    if load.pods + 1 > node.max_pods:
        yield "Too many pods"
    # A pod that requests nothing of a resource fits also where none is left.
    if requests.cpu_milli and load.requests.cpu_milli + requests.cpu_milli > node.allocatable.cpu_milli:
        yield "Insufficient cpu"
    if requests.memory and load.requests.memory + requests.memory > node.allocatable.memory:
        yield "Insufficient memory"


def _ports_taken(wanted: Iterable[HostPort], taken: Iterable[HostPort]) -> bool:
    return any(port.conflicts_with(other) for port in wanted for other in taken)


def _tolerated(taint: Taint, tolerations: Iterable[v1.Toleration]) -> bool:
    return any(_tolerates(toleration, taint) for toleration in tolerations)


def _tolerates(toleration: v1.Toleration, taint: Taint) -> bool:
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.operator == "Exists":
        return toleration.key in ("", taint.key)
    return toleration.key == taint.key and toleration.value == taint.value


def _unschedulable(total: int, refusals: Counter[str]) -> str:
    if not total:
        return "no nodes available to schedule pods"
    listed = ", ".join(sorted(f"{count} {reason}" for reason, count in refusals.items()))
    return f"0/{total} nodes are available: {listed}."
