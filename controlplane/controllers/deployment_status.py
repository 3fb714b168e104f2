"""What a deployment's status says: counts over its replica sets, and the conditions Available and Progressing. Pure.

Reasons and messages are Kubernetes' own, because people and scripts look for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from controlplane import conditions
from controlplane.clock import from_timestamp, to_timestamp
from controlplane.controllers.rollout import limits
from podwire import v1

_DONE: Final = "NewReplicaSetAvailable"
_LATE: Final = "ProgressDeadlineExceeded"
_PAUSED: Final = "DeploymentPaused"


@dataclass(frozen=True, slots=True)
class Observed:
    """`changes_at`: when the rollout will be late if nothing happens until then."""

    status: v1.DeploymentStatus
    complete: bool
    changes_at: datetime | None


def observe(
    deployment: v1.Deployment, current: v1.ReplicaSet | None, owned: Sequence[v1.ReplicaSet], now: datetime
) -> Observed:
    """`current` is the set of the deployment's template, one of `owned`."""
    status = v1.DeploymentStatus()
    status.CopyFrom(deployment.status)
    status.observed_generation = deployment.metadata.generation
    status.replicas = sum(replica_set.status.replicas for replica_set in owned)
    status.updated_replicas = current.status.replicas if current is not None else 0
    status.ready_replicas = sum(replica_set.status.ready_replicas for replica_set in owned)
    status.available_replicas = sum(replica_set.status.available_replicas for replica_set in owned)
    wanted = max(deployment.spec.replicas, sum(replica_set.spec.replicas for replica_set in owned))
    status.unavailable_replicas = max(0, wanted - status.available_replicas)
    if status.available_replicas >= deployment.spec.replicas - limits(deployment).unavailable:
        available = ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    else:
        available = ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    _put(status, "Available", *available, now)
    complete = (
        current is not None
        and status.updated_replicas == status.replicas == status.available_replicas == deployment.spec.replicas
        and current.spec.replicas == deployment.spec.replicas
    )
    changes_at = _progress(deployment, current, status, complete, now)
    return Observed(status, complete, changes_at)


def _progress(
    deployment: v1.Deployment,
    current: v1.ReplicaSet | None,
    status: v1.DeploymentStatus,
    complete: bool,
    now: datetime,
) -> datetime | None:
    """Sets Progressing; when it will be late."""
    if deployment.spec.paused:
        _put(status, "Progressing", "Unknown", _PAUSED, "Deployment is paused", now)
        return None
    if current is None:
        return None
    name = current.metadata.name
    before = conditions.find(status.conditions, "Progressing")
    begins = before is None or before.reason == _PAUSED or f'"{name}"' not in before.message
    if complete:
        message = f'ReplicaSet "{name}" has successfully progressed.'
        _put(status, "Progressing", "True", _DONE, message, now)
        return None
    if not begins and before is not None and before.reason == _DONE and status.replicas == status.updated_replicas:
        # It was rolled out; that a pod is missing now, or that it was scaled, is no new rollout.
        return None
    if begins or _got_on(deployment.status, status):
        _put(status, "Progressing", "True", "ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.', now)
        updated = conditions.find(status.conditions, "Progressing")
        assert updated is not None
        updated.last_update_time.CopyFrom(to_timestamp(now))
        before = updated
    if before is None or not deployment.spec.progress_deadline_seconds:
        return None
    late_at = from_timestamp(before.last_update_time) + timedelta(seconds=deployment.spec.progress_deadline_seconds)
    if now < late_at:
        return late_at
    _put(status, "Progressing", "False", _LATE, f'ReplicaSet "{name}" has timed out progressing.', now)
    return None


def _got_on(before: v1.DeploymentStatus, after: v1.DeploymentStatus) -> bool:
    return (
        after.updated_replicas > before.updated_replicas
        or after.replicas - after.updated_replicas < before.replicas - before.updated_replicas
        or after.ready_replicas > before.ready_replicas
        or after.available_replicas > before.available_replicas
    )


def _put(status: v1.DeploymentStatus, kind: str, value: str, reason: str, message: str, now: datetime) -> None:
    if conditions.put(status.conditions, kind, value, reason, message, now):
        condition = conditions.find(status.conditions, kind)
        assert condition is not None
        condition.last_update_time.CopyFrom(to_timestamp(now))
