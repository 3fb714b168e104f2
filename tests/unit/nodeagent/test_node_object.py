"""The Node object as the agent wants it."""

from __future__ import annotations

from dataclasses import replace

from nodeagent.node_facts import NodeFacts
from nodeagent.node_network import wanted_routes
from nodeagent.node_object import NodeState, new_node, with_labels, with_status
from podwire import v1
from tests.unit.nodeagent.pods.builders import at

STATE = NodeState(
    name="node1",
    address="10.77.0.11",
    labels={"zone": "a"},
    facts=NodeFacts(cpus=2, memory=4 << 30, disk=100 << 30, info=v1.NodeSystemInfo(operating_system="linux")),
)


def ready(node: v1.Node) -> v1.NodeCondition:
    return next(condition for condition in node.status.conditions if condition.type == "Ready")


def test_a_node_registers_with_its_resources_labels_and_addresses() -> None:
    node = new_node(STATE, at(0))
    assert node.metadata.labels["kubernetes.io/hostname"] == "node1"
    assert node.metadata.labels["kubernetes.io/os"] == "linux"
    assert node.metadata.labels["zone"] == "a"
    capacity = {name: amount.string for name, amount in node.status.capacity.items()}
    assert capacity == {"cpu": "2", "memory": "4194304Ki", "ephemeral-storage": "104857600Ki", "pods": "110"}
    addresses = [(address.type, address.address) for address in node.status.addresses]
    assert addresses == [("InternalIP", "10.77.0.11"), ("Hostname", "node1")]
    assert ready(node).status == "True"


def test_a_node_in_trouble_is_not_ready_and_says_why() -> None:
    node = new_node(replace(STATE, troubles=("the pod network is not set up",)), at(0))
    assert ready(node).status == "False"
    assert ready(node).message == "the pod network is not set up"


def test_what_has_not_changed_is_not_written_again() -> None:
    node = new_node(STATE, at(0))
    assert with_status(with_labels(node, STATE), STATE, at(100)) == node


def test_a_node_that_was_declared_silent_is_ready_again_from_now() -> None:
    node = new_node(STATE, at(0))
    condition = ready(node)
    condition.status, condition.reason = "Unknown", "NodeStatusUnknown"
    again = with_status(node, STATE, at(50))
    assert ready(again).status == "True"
    assert ready(again).last_transition_time.ToSeconds() == at(50).timestamp()


def test_what_others_wrote_on_the_node_stays() -> None:
    node = new_node(STATE, at(0))
    node.metadata.labels["team"] = "db"
    node.spec.unschedulable = True
    node.status.conditions.add(type="Example", status="True")
    again = with_status(with_labels(node, STATE), STATE, at(50))
    assert again.metadata.labels["team"] == "db"
    assert again.spec.unschedulable
    assert any(condition.type == "Example" for condition in again.status.conditions)


def test_routes_lead_to_every_other_node_that_has_a_range_and_an_address() -> None:
    def node(name: str, pod_cidr: str, address: str) -> v1.Node:
        made = v1.Node(metadata=v1.ObjectMeta(name=name), spec=v1.NodeSpec(pod_cidr=pod_cidr))
        if address:
            made.status.addresses.add(type="InternalIP", address=address)
        return made

    nodes = [
        node("node1", "10.244.0.0/24", "10.77.0.11"),
        node("node2", "10.244.1.0/24", "10.77.0.12"),
        node("node3", "", "10.77.0.13"),
        node("node4", "10.244.3.0/24", ""),
    ]
    assert wanted_routes(nodes, "node1") == {"10.244.1.0/24": "10.77.0.12"}
