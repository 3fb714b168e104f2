"""What a replica set does next: how many pods to create, which to delete, and what its status says. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from controlplane import conditions
from controlplane.clock import from_timestamp
from controlplane.controllers.pod_state import available_at, is_active, is_ready
from podwire import v1

# Kubernetes' BurstReplicas: what one step creates or deletes at most; the next step does the rest.
BURST: Final = 500
_PHASES: Final = {"Pending": 0, "": 0, "Unknown": 1, "Running": 2}


@dataclass(frozen=True, slots=True)
class Plan:
    create: int
    delete: Sequence[v1.Pod]


def plan(replica_set: v1.ReplicaSet, owned: Sequence[v1.Pod]) -> Plan:
    """`owned` are the pods that the set controls, whatever their state."""
    active = [pod for pod in owned if is_active(pod)]
    missing = replica_set.spec.replicas - len(active)
    if missing >= 0:
        return Plan(min(missing, BURST), ())
    on_node = Counter(pod.spec.node_name for pod in active)
    ranked = sorted(active, key=lambda pod: deletion_rank(pod, on_node[pod.spec.node_name]))
    return Plan(0, ranked[: min(-missing, BURST)])


def deletion_rank(pod: v1.Pod, neighbours: int) -> tuple[float | str, ...]:
    """Sorts first what is given up first, as Kubernetes does (ActivePodsWithRanks in pkg/controller).

    Without a node, pending, not ready, then: on the node with most pods of the set, ready for the shortest time,
    restarted most often, created last.
    """
    ready = conditions.find(pod.status.conditions, "Ready")
    is_up = ready is not None and ready.status == "True"
    ready_since = from_timestamp(ready.last_transition_time).timestamp() if ready is not None and is_up else 0.0
    restarts = max((status.restart_count for status in pod.status.container_statuses), default=0)
    return (
        bool(pod.spec.node_name),
        _PHASES.get(pod.status.phase, 1),
        is_up,
        -neighbours,
        -ready_since,
        -restarts,
        -from_timestamp(pod.metadata.creation_timestamp).timestamp(),
        # Equal in all that: the order must not depend on chance.
        pod.metadata.name,
    )


@dataclass(frozen=True, slots=True)
class Observed:
    """`changes_at`: when a pod that is ready now becomes available by nothing but the passing of time."""

    status: v1.ReplicaSetStatus
    changes_at: datetime | None


def observe(replica_set: v1.ReplicaSet, owned: Sequence[v1.Pod], now: datetime) -> Observed:
    """The status that `owned` comes to."""
    active = [pod for pod in owned if is_active(pod)]
    template = dict(replica_set.spec.template.metadata.labels)
    status = v1.ReplicaSetStatus()
    status.CopyFrom(replica_set.status)
    status.replicas = len(active)
    status.fully_labeled_replicas = sum(template.items() <= dict(pod.metadata.labels).items() for pod in active)
    status.ready_replicas = sum(is_ready(pod) for pod in active)
    moments = [at for pod in active if (at := available_at(pod, replica_set.spec.min_ready_seconds)) is not None]
    status.available_replicas = sum(at <= now for at in moments)
    status.observed_generation = replica_set.metadata.generation
    return Observed(status, min((at for at in moments if at > now), default=None))
