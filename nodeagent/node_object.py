"""The Node object as this agent wants it: a pure function of the machine's facts and the agent's own state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from nodeagent.node_facts import NodeFacts, architecture, resources
from podwire import v1

READY: Final = "Ready"
# What Kubernetes reports of every node. Nothing here measures pressure yet, so none is ever found.
_PRESSURES: Final = (
    ("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
)


@dataclass(frozen=True, slots=True)
class NodeState:
    """`troubles` keep the node from taking pods, each as a sentence; none: it is ready."""

    name: str
    address: str
    labels: Mapping[str, str]
    facts: NodeFacts
    troubles: tuple[str, ...] = ()


def new_node(state: NodeState, now: datetime) -> v1.Node:
    """The node as it registers."""
    node = v1.Node(metadata=v1.ObjectMeta(name=state.name))
    return with_status(with_labels(node, state), state, now)


def with_labels(node: v1.Node, state: NodeState) -> v1.Node:
    """A copy with the labels that are the agent's; others' labels stay."""
    wanted = {
        "kubernetes.io/hostname": state.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture(),
        **state.labels,
    }
    changed = v1.Node()
    changed.CopyFrom(node)
    changed.metadata.labels.update(wanted)
    return changed


def with_status(node: v1.Node, state: NodeState, now: datetime) -> v1.Node:
    """A copy with the agent's status. What others report as conditions stays."""
    changed = v1.Node()
    changed.CopyFrom(node)
    status = changed.status
    for name, amount in resources(state.facts).items():
        status.capacity[name].string = amount
        status.allocatable[name].string = amount
    status.node_info.CopyFrom(state.facts.info)
    del status.addresses[:]
    status.addresses.add(type="InternalIP", address=state.address)
    status.addresses.add(type="Hostname", address=state.name)
    ours = [_condition(node, kind, "False", reason, message, now) for kind, reason, message in _PRESSURES]
    ours.append(_ready(node, state, now))
    kinds = {condition.type for condition in ours}
    others = [condition for condition in node.status.conditions if condition.type not in kinds]
    del status.conditions[:]
    status.conditions.extend([*others, *ours])
    return changed


def _ready(node: v1.Node, state: NodeState, now: datetime) -> v1.NodeCondition:
    if state.troubles:
        return _condition(node, READY, "False", "AgentNotReady", "; ".join(state.troubles), now)
    return _condition(node, READY, "True", "AgentReady", "podwire-agent is posting ready status", now)


def _condition(node: v1.Node, kind: str, value: str, reason: str, message: str, now: datetime) -> v1.NodeCondition:
    """As it was, where nothing has changed: a status that is equal is not written again."""
    for before in node.status.conditions:
        if (before.type, before.status, before.reason, before.message) == (kind, value, reason, message):
            return before
    condition = v1.NodeCondition(type=kind, status=value, reason=reason, message=message)
    moment = Timestamp(seconds=int(now.timestamp()))
    condition.last_heartbeat_time.CopyFrom(moment)
    condition.last_transition_time.CopyFrom(moment)
    for before in node.status.conditions:
        if before.type == kind and before.status == value:
            condition.last_transition_time.CopyFrom(before.last_transition_time)
    return condition
