"""What the server decides about objects by itself."""

from __future__ import annotations

import re
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from controlplane.services import lifecycle
from controlplane.services.binding import bound
from podwire import errors, kinds, v1
from podwire.defaults import apply_defaults

NOW = Timestamp(seconds=1_000)


def pod(**spec: Any) -> v1.Pod:
    made = v1.Pod(metadata=v1.ObjectMeta(name="web", namespace="default", uid="u", resource_version="5", generation=1))
    made.spec.CopyFrom(v1.PodSpec(termination_grace_period_seconds=30, **spec))
    made.spec.containers.add(name="a", image="b")
    return made


def test_a_new_object_gets_identity_defaults_and_no_status() -> None:
    obj = v1.Pod(metadata=v1.ObjectMeta(name="web", uid="forged", generation=7))
    obj.spec.containers.add(name="a", image="b")
    obj.status.phase = "Running"
    lifecycle.prepare_new(kinds.POD, obj, uid="u", now=NOW)
    assert (obj.metadata.uid, obj.metadata.generation, obj.metadata.namespace) == ("u", 1, "default")
    assert obj.metadata.creation_timestamp == NOW
    assert obj.status.phase == "Pending"
    assert obj.spec.restart_policy == "Always"


def test_a_generated_name_is_the_base_and_five_characters() -> None:
    obj = v1.ConfigMap(metadata=v1.ObjectMeta(generate_name="web-"))
    lifecycle.prepare_new(kinds.CONFIG_MAP, obj, uid="u", now=NOW)
    assert re.fullmatch(r"web-[a-z0-9]{5}", obj.metadata.name)
    assert len(lifecycle.generated_name("x" * 300)) == 253


def test_a_node_is_made_with_the_status_that_its_agent_knows() -> None:
    node = v1.Node(metadata=v1.ObjectMeta(name="n"))
    node.status.capacity["cpu"].string = "4"
    lifecycle.prepare_new(kinds.NODE, node, uid="u", now=NOW)
    assert node.status.capacity["cpu"].string == "4"


def test_a_new_object_with_a_version_is_refused() -> None:
    with pytest.raises(errors.Invalid, match=r"metadata\.resourceVersion"):
        lifecycle.prepare_new(kinds.POD, pod(), uid="u", now=NOW)


def test_an_update_keeps_what_is_the_servers_and_counts_changes_of_the_spec() -> None:
    old = pod()
    old.status.phase = "Running"
    old.metadata.creation_timestamp.CopyFrom(NOW)
    new = pod()
    new.metadata.creation_timestamp.seconds = 5
    new.metadata.labels["a"] = "b"
    new.status.phase = "Failed"
    lifecycle.prepare_update(kinds.POD, old, new)
    lifecycle.finish_update(kinds.POD, _defaulted(old), new)
    assert new.status.phase == "Running"
    assert new.metadata.creation_timestamp == NOW
    assert new.metadata.generation == 1
    new.spec.containers[0].image = "c"
    lifecycle.finish_update(kinds.POD, _defaulted(old), new)
    assert new.metadata.generation == 2


def test_an_update_of_an_older_version_conflicts_and_of_another_uid_is_refused() -> None:
    with pytest.raises(errors.Conflict):
        lifecycle.check_preconditions(kinds.POD, pod(), uid="", resource_version="4")
    with pytest.raises(errors.PreconditionFailed):
        lifecycle.check_preconditions(kinds.POD, pod(), uid="other", resource_version="")
    lifecycle.check_preconditions(kinds.POD, pod(), uid="u", resource_version="5")


def test_an_update_of_status_changes_nothing_else() -> None:
    sent = pod(node_name="elsewhere")
    sent.status.phase = "Running"
    new = lifecycle.with_status(kinds.POD, pod(), sent)
    assert new.status.phase == "Running"
    assert new.spec == pod().spec


def test_binding_gives_a_pod_its_node_and_says_so() -> None:
    request = v1.BindRequest(name="web", uid="u", node_name="n1")
    once = bound(pod(), request, NOW)
    assert once.spec.node_name == "n1"
    assert [(c.type, c.status) for c in once.status.conditions] == [("PodScheduled", "True")]
    assert bound(once, request, Timestamp(seconds=2_000)) == once
    with pytest.raises(errors.PreconditionFailed, match="n1"):
        bound(once, v1.BindRequest(name="web", node_name="n2"), NOW)
    with pytest.raises(errors.PreconditionFailed):
        bound(pod(), v1.BindRequest(name="web", uid="other", node_name="n2"), NOW)


def test_a_service_loses_what_its_old_type_brought() -> None:
    old = v1.Service(metadata=v1.ObjectMeta(name="s", namespace="default"))
    old.spec.type, old.spec.cluster_ip, old.spec.external_traffic_policy = "NodePort", "10.96.0.9", "Cluster"
    old.spec.ports.add(port=80, protocol="TCP", node_port=30001)
    new = lifecycle.copy_of(old)
    new.spec.type = "ClusterIP"
    lifecycle.prepare_update(kinds.SERVICE, old, new)
    assert new.spec.cluster_ip == "10.96.0.9"
    assert not new.spec.ports[0].node_port
    assert not new.spec.external_traffic_policy
    new.spec.type = "ExternalName"
    lifecycle.prepare_update(kinds.SERVICE, old, new)
    assert not new.spec.cluster_ip


def _defaulted(obj: v1.Pod) -> v1.Pod:
    copy: v1.Pod = lifecycle.copy_of(obj)
    apply_defaults(kinds.POD, copy)
    return copy
