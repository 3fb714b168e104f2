"""`describe deployment` and `describe replicaset`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from podctl.describing.containers import describe_containers, describe_volumes, port_text
from podctl.describing.page import (
    NONE,
    annotation_lines,
    conditions,
    controlled_by,
    created,
    field,
    head,
    label_lines,
    mapping,
)
from podwire import v1
from podwire.selectors import LabelSelector

# The deployment controller adds it to the template of each replica set.
_HASH_LABEL = "pod-template-hash"


def describe_deployment(deployment: v1.Deployment, replica_sets: Sequence[v1.ReplicaSet]) -> str:
    """`replica_sets` are those that it controls."""
    metadata, spec, status = deployment.metadata, deployment.spec, deployment.status
    text = head(metadata) + created(metadata) + label_lines(metadata) + annotation_lines(metadata)
    text += field("Selector", str(LabelSelector.from_message(spec.selector)) or NONE)
    text += field(
        "Replicas",
        f"{spec.replicas} desired | {status.updated_replicas} updated | {status.replicas} total | "
        f"{status.available_replicas} available | {status.unavailable_replicas} unavailable",
    )
    text += field("StrategyType", spec.strategy.type) + field("MinReadySeconds", spec.min_ready_seconds)
    if spec.strategy.HasField("rolling_update"):
        rolling = spec.strategy.rolling_update
        limits = f"{port_text(rolling.max_unavailable)} max unavailable, {port_text(rolling.max_surge)} max surge"
        text += field("RollingUpdateStrategy", limits)
    text += _template(spec.template) + conditions(status.conditions)
    current = [each for each in replica_sets if _same_template(each.spec.template, spec.template)]
    old = [each for each in replica_sets if each not in current]
    text += field("OldReplicaSets", _replica_sets(old))
    return text + field("NewReplicaSet", _replica_sets(current))


def describe_replica_set(replica_set: v1.ReplicaSet, pods: Sequence[v1.Pod]) -> str:
    """`pods` are those that it controls."""
    metadata, spec, status = replica_set.metadata, replica_set.spec, replica_set.status
    phases = Counter(pod.status.phase for pod in pods)
    text = head(metadata) + field("Selector", str(LabelSelector.from_message(spec.selector)) or NONE)
    text += label_lines(metadata) + annotation_lines(metadata) + controlled_by(metadata)
    text += field("Replicas", f"{status.replicas} current / {spec.replicas} desired")
    text += field(
        "Pods Status",
        f"{phases['Running']} Running / {phases['Pending']} Waiting / "
        f"{phases['Succeeded']} Succeeded / {phases['Failed']} Failed",
    )
    return text + _template(spec.template) + conditions(status.conditions)


def _template(template: v1.PodTemplateSpec) -> str:
    text = mapping("Labels", template.metadata.labels)
    text += describe_containers("Init Containers", template.spec.init_containers, (), live=False)
    text += describe_containers("Containers", template.spec.containers, (), live=False)
    text += describe_volumes(template.spec.volumes)
    text += mapping("Node-Selectors", template.spec.node_selector)
    return "Pod Template:\n" + "".join(f"  {line}\n" for line in text.rstrip("\n").split("\n"))


def _same_template(one: v1.PodTemplateSpec, other: v1.PodTemplateSpec) -> bool:
    plain = v1.PodTemplateSpec()
    plain.CopyFrom(one)
    plain.metadata.labels.pop(_HASH_LABEL, None)
    return bool(plain == other)


def _replica_sets(replica_sets: Sequence[v1.ReplicaSet]) -> str:
    shown = (f"{e.metadata.name} ({e.status.replicas}/{e.spec.replicas} replicas created)" for e in replica_sets)
    return ", ".join(shown) or NONE
