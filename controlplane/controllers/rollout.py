"""What a deployment does next: which replica set is the one of its template, and how large each of them becomes. Pure.

One replica set a template. A step never leaves fewer than `replicas - maxUnavailable` pods available nor more than
`replicas + maxSurge` in all; which steps come, and in which order, follows Kubernetes (pkg/controller/deployment).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from controlplane.clock import from_timestamp
from controlplane.controllers import names
from controlplane.controllers.ownership import reference_to
from podwire import v1
from podwire.kinds import DEPLOYMENT

HASH_LABEL: Final = "pod-template-hash"
REVISION: Final = "deployment.kubernetes.io/revision"
_HASH_LENGTH: Final = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """`create` and `update` are ready to be written; `current` is the set of the template, if it is there already.

    The deployment's own revision annotation is to become `revision` (empty: as it is).
    """

    current: v1.ReplicaSet | None
    create: v1.ReplicaSet | None
    update: Sequence[v1.ReplicaSet]
    revision: str


@dataclass(frozen=True, slots=True)
class Limits:
    """Pods above and below `replicas` that a rollout may make, as numbers."""

    surge: int
    unavailable: int


def limits(deployment: v1.Deployment) -> Limits:
    """Percentages of the replicas: surge rounds up, unavailable down; both 0 would never move, so then one may go."""
    if deployment.spec.strategy.type == "Recreate":
        return Limits(0, deployment.spec.replicas)
    replicas = deployment.spec.replicas
    rolling = deployment.spec.strategy.rolling_update
    surge = _share(rolling.max_surge, replicas, round_up=True)
    unavailable = _share(rolling.max_unavailable, replicas, round_up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return Limits(surge, min(unavailable, replicas))


def plan(deployment: v1.Deployment, owned: Sequence[v1.ReplicaSet], *, old_pods: bool) -> Plan:
    """`owned` are its replica sets; `old_pods` whether pods of other templates are left, also ones being stopped."""
    current = current_set(deployment, owned)
    others = by_age([replica_set for replica_set in owned if replica_set is not current])
    sizes = {replica_set.metadata.uid: replica_set.spec.replicas for replica_set in owned}
    revision = _next_revision(current, others)
    if deployment.spec.paused:
        _scale_paused(deployment, [*others, *([current] if current is not None else [])], sizes)
        return Plan(current, None, _resized(owned, sizes), "")
    if deployment.spec.strategy.type == "Recreate":
        if old_pods or any(other.spec.replicas for other in others):
            # Nothing of the new template runs beside the old one.
            sizes.update({other.metadata.uid: 0 for other in others})
            return Plan(current, None, _resized(owned, sizes), "")
        wanted = deployment.spec.replicas
    else:
        wanted = _grown(deployment, current, owned)
        _shrink_old(deployment, current, wanted, others, sizes)
    if current is None:
        return Plan(None, _new_set(deployment, owned, wanted, revision), _resized(owned, sizes), revision)
    sizes[current.metadata.uid] = wanted
    updates = _resized([replica_set for replica_set in owned if replica_set is not current], sizes)
    refreshed = _refreshed(deployment, current, wanted, revision)
    return Plan(current, None, [*updates, *([refreshed] if refreshed != current else [])], revision)


def current_set(deployment: v1.Deployment, owned: Sequence[v1.ReplicaSet]) -> v1.ReplicaSet | None:
    """The set of the deployment's template: by its hash, or, where an upgrade of ours changed that, by comparison."""
    expected = template_hash(deployment)
    template = _plain(deployment.spec.template)
    for replica_set in by_age(owned):
        if replica_set.metadata.labels.get(HASH_LABEL) == expected or _plain(replica_set.spec.template) == template:
            return replica_set
    return None


def template_hash(deployment: v1.Deployment) -> str:
    """Another name for the template; `collisionCount` makes it another one where a stranger has taken the name."""
    template = _plain(deployment.spec.template).SerializeToString(deterministic=True)
    collisions = str(deployment.status.collision_count).encode() if deployment.status.collision_count else b""
    return names.hash_of(template, collisions, length=_HASH_LENGTH)


def superfluous(deployment: v1.Deployment, owned: Sequence[v1.ReplicaSet]) -> list[v1.ReplicaSet]:
    """Old sets beyond `revisionHistoryLimit`, oldest revision first; only ones that have no pods any more."""
    current = current_set(deployment, owned)
    empty = [
        replica_set
        for replica_set in owned
        if replica_set is not current
        and not (replica_set.spec.replicas or replica_set.status.replicas)
        and replica_set.status.observed_generation >= replica_set.metadata.generation
        and not replica_set.metadata.HasField("deletion_timestamp")
    ]
    empty.sort(key=_revision)
    return empty[: max(0, len(empty) - deployment.spec.revision_history_limit)]


def by_age(replica_sets: Sequence[v1.ReplicaSet]) -> list[v1.ReplicaSet]:
    """Oldest first."""
    return sorted(
        replica_sets,
        key=lambda replica_set: (from_timestamp(replica_set.metadata.creation_timestamp), replica_set.metadata.name),
    )


def _grown(deployment: v1.Deployment, current: v1.ReplicaSet | None, owned: Sequence[v1.ReplicaSet]) -> int:
    """The current set's next size: as large as the surge allows."""
    size = current.spec.replicas if current is not None else 0
    if size >= deployment.spec.replicas:
        return deployment.spec.replicas
    total = sum(replica_set.spec.replicas for replica_set in owned)
    room = deployment.spec.replicas + limits(deployment).surge - total
    return size + max(0, min(room, deployment.spec.replicas - size))


def _shrink_old(
    deployment: v1.Deployment,
    current: v1.ReplicaSet | None,
    current_size: int,
    others: Sequence[v1.ReplicaSet],
    sizes: dict[str, int],
) -> None:
    """Takes from the old sets what availability allows: first pods that are not available, oldest set first."""
    least = deployment.spec.replicas - limits(deployment).unavailable
    current_available = current.status.available_replicas if current is not None else 0
    total = current_size + sum(other.spec.replicas for other in others)
    # What the current set has still to bring up counts as if it never came.
    spare = total - least - max(0, current_size - current_available)
    for other in others:
        broken = other.spec.replicas - min(other.status.available_replicas, other.spec.replicas)
        gone = max(0, min(spare, broken))
        sizes[other.metadata.uid] -= gone
        spare -= gone
    available = current_available + sum(other.status.available_replicas for other in others)
    spare = min(spare, available - least)
    for other in others:
        gone = max(0, min(spare, sizes[other.metadata.uid]))
        sizes[other.metadata.uid] -= gone
        spare -= gone


def _scale_paused(deployment: v1.Deployment, oldest_first: Sequence[v1.ReplicaSet], sizes: dict[str, int]) -> None:
    """A paused deployment starts nothing new, but keeps its number of pods: the newest grows, the oldest shrinks."""
    missing = deployment.spec.replicas - sum(sizes.values())
    if missing > 0 and oldest_first:
        sizes[oldest_first[-1].metadata.uid] += missing
    for replica_set in oldest_first:
        gone = max(0, min(-missing, sizes[replica_set.metadata.uid]))
        sizes[replica_set.metadata.uid] -= gone
        missing += gone


def _resized(owned: Sequence[v1.ReplicaSet], sizes: dict[str, int]) -> list[v1.ReplicaSet]:
    changed = []
    for replica_set in owned:
        if sizes[replica_set.metadata.uid] != replica_set.spec.replicas:
            resized = v1.ReplicaSet()
            resized.CopyFrom(replica_set)
            resized.spec.replicas = sizes[replica_set.metadata.uid]
            changed.append(resized)
    return changed


def _refreshed(deployment: v1.Deployment, current: v1.ReplicaSet, size: int, revision: str) -> v1.ReplicaSet:
    refreshed = v1.ReplicaSet()
    refreshed.CopyFrom(current)
    refreshed.spec.replicas = size
    refreshed.spec.min_ready_seconds = deployment.spec.min_ready_seconds
    refreshed.metadata.annotations[REVISION] = revision
    return refreshed


def _new_set(deployment: v1.Deployment, owned: Sequence[v1.ReplicaSet], size: int, revision: str) -> v1.ReplicaSet:
    """The same deployment and template give the same name: a second creation finds the first."""
    name_hash = template_hash(deployment)
    new = v1.ReplicaSet()
    new.metadata.name = names.join(deployment.metadata.name, name_hash)
    new.metadata.namespace = deployment.metadata.namespace
    new.metadata.labels.update(deployment.spec.template.metadata.labels)
    new.metadata.labels[HASH_LABEL] = name_hash
    new.metadata.annotations[REVISION] = revision
    new.metadata.owner_references.append(reference_to(DEPLOYMENT, deployment))
    new.spec.replicas = size
    new.spec.min_ready_seconds = deployment.spec.min_ready_seconds
    new.spec.selector.CopyFrom(deployment.spec.selector)
    new.spec.selector.match_labels[HASH_LABEL] = name_hash
    new.spec.template.CopyFrom(deployment.spec.template)
    new.spec.template.metadata.labels[HASH_LABEL] = name_hash
    return new


def _next_revision(current: v1.ReplicaSet | None, others: Sequence[v1.ReplicaSet]) -> str:
    """The current set's, if no other's is higher; a template that comes back gets a new one."""
    highest = max((_revision(other) for other in others), default=0)
    own = _revision(current) if current is not None else 0
    return str(own if own > highest else highest + 1)


def _revision(replica_set: v1.ReplicaSet) -> int:
    text = replica_set.metadata.annotations.get(REVISION, "")
    return int(text) if text.isdigit() else 0


def _plain(template: v1.PodTemplateSpec) -> v1.PodTemplateSpec:
    """Without the label that tells the sets' pods apart."""
    plain = v1.PodTemplateSpec()
    plain.CopyFrom(template)
    plain.metadata.labels.pop(HASH_LABEL, None)
    return plain


def _share(value: v1.IntOrString, of: int, *, round_up: bool) -> int:
    if value.WhichOneof("value") == "string":
        hundredths = int(value.string.removesuffix("%")) * of
        return -(-hundredths // 100) if round_up else hundredths // 100
    return value.int
