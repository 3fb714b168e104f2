"""Defaults as in Kubernetes."""

import textwrap
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podwire import kinds, manifest, v1
from podwire.defaults import apply_defaults, image_pull_policy, qos_class
from tests.unit.podwire.messages import objects


def defaulted(text: str) -> Any:
    """The tree of the object in `text`, with its defaults."""
    [document] = manifest.load(textwrap.dedent(text))
    message = document.message()
    apply_defaults(document.kind, message)
    return manifest.to_tree(document.kind, message)


def test_a_pod_gets_what_it_does_not_say() -> None:
    pod = defaulted("""
        apiVersion: v1
        kind: Pod
        spec:
          containers:
          - name: web
            image: nginx:1.25
            ports: [{containerPort: 80}]
            resources: {limits: {cpu: 1, memory: 64Mi}, requests: {cpu: 500m}}
            livenessProbe: {httpGet: {port: 80}, periodSeconds: 3}
            readinessProbe: {exec: {command: [cat]}}
            env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
          volumes:
          - {name: a, hostPath: {path: /a}}
          - {name: b, configMap: {name: b}}
          - {name: c}
    """)
    container = pod["spec"].pop("containers")[0]
    assert pod["spec"].pop("volumes") == [
        {"name": "a", "hostPath": {"path": "/a", "type": ""}},
        {"name": "b", "configMap": {"name": "b", "defaultMode": 0o644}},
        {"name": "c", "emptyDir": {}},
    ]
    assert pod["spec"] == {
        "dnsPolicy": "ClusterFirst",
        "enableServiceLinks": True,
        "restartPolicy": "Always",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "terminationGracePeriodSeconds": 30,
    }
    assert pod["status"] == {"phase": "Pending", "qosClass": "Burstable"}
    assert container == {
        "env": [{"name": "A", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}],
        "image": "nginx:1.25",
        "imagePullPolicy": "IfNotPresent",
        "livenessProbe": {
            "failureThreshold": 3,
            "httpGet": {"path": "/", "port": 80, "scheme": "HTTP"},
            "initialDelaySeconds": 0,
            "periodSeconds": 3,
            "successThreshold": 1,
            "timeoutSeconds": 1,
        },
        "name": "web",
        "ports": [{"containerPort": 80, "protocol": "TCP"}],
        "readinessProbe": {
            "exec": {"command": ["cat"]},
            "failureThreshold": 3,
            "initialDelaySeconds": 0,
            "periodSeconds": 10,
            "successThreshold": 1,
            "timeoutSeconds": 1,
        },
        "resources": {"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": "500m", "memory": "64Mi"}},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
    }


def test_what_is_said_is_kept() -> None:
    pod = defaulted("""
        apiVersion: v1
        kind: Pod
        spec:
          restartPolicy: Never
          terminationGracePeriodSeconds: 0
          enableServiceLinks: false
          hostNetwork: true
          containers: [{name: a, image: a, imagePullPolicy: Never, ports: [{containerPort: 53, protocol: UDP}]}]
    """)["spec"]
    assert (pod["restartPolicy"], pod["terminationGracePeriodSeconds"], pod["enableServiceLinks"]) == (
        "Never",
        0,
        False,
    )
    assert pod["containers"][0]["imagePullPolicy"] == "Never"
    assert pod["containers"][0]["ports"] == [{"containerPort": 53, "hostPort": 53, "protocol": "UDP"}]


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("docker.io/library/nginx:latest", "Always"),
        ("registry:5000/nginx", "Always"),
        ("nginx:1.25", "IfNotPresent"),
        ("nginx@sha256:" + "0" * 64, "IfNotPresent"),
        ("nginx:latest@sha256:" + "0" * 64, "IfNotPresent"),
    ],
)
def test_images_that_may_change_are_pulled_always(image: str, policy: str) -> None:
    assert image_pull_policy(image) == policy


@pytest.mark.parametrize(
    ("requests", "limits", "expected"),
    [
        ({}, {}, "BestEffort"),
        ({"example.com/gpu": "1"}, {}, "BestEffort"),
        ({"cpu": "1"}, {}, "Burstable"),
        ({}, {"memory": "1"}, "Burstable"),
        ({"cpu": "1", "memory": "1"}, {"cpu": "1", "memory": "1"}, "Guaranteed"),
        ({"cpu": "1", "memory": "1"}, {"cpu": "2", "memory": "1"}, "Burstable"),
    ],
)
def test_the_class_of_service_follows_from_the_resources(
    requests: dict[str, str], limits: dict[str, str], expected: str
) -> None:
    container = v1.Container()
    for amounts, given_amounts in ((container.resources.requests, requests), (container.resources.limits, limits)):
        for name, amount in given_amounts.items():
            amounts[name].string = amount
    assert qos_class(v1.PodSpec(containers=[container])) == expected


def test_a_deployment_gets_a_replica_and_a_rolling_update() -> None:
    deployment = defaulted("""
        apiVersion: apps/v1
        kind: Deployment
        spec: {template: {spec: {containers: [{name: a, image: a, resources: {limits: {cpu: 1}}}]}}}
    """)["spec"]
    template = deployment.pop("template")["spec"]
    assert deployment == {
        "progressDeadlineSeconds": 600,
        "replicas": 1,
        "revisionHistoryLimit": 10,
        "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}, "type": "RollingUpdate"},
    }
    assert template["restartPolicy"] == "Always"
    assert "requests" not in template["containers"][0]["resources"], "a template shows what its author wrote"


def test_a_deployment_of_no_replicas_keeps_none() -> None:
    deployment = defaulted("apiVersion: apps/v1\nkind: Deployment\nspec: {replicas: 0, strategy: {type: Recreate}}")
    assert deployment["spec"]["replicas"] == 0
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}


def test_a_service_gets_a_type_and_target_ports() -> None:
    service = defaulted("""
        apiVersion: v1
        kind: Service
        spec: {type: NodePort, ports: [{port: 80, nodePort: 30001}, {port: 81, targetPort: http}]}
    """)["spec"]
    assert service == {
        "externalTrafficPolicy": "Cluster",
        "internalTrafficPolicy": "Cluster",
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "ports": [
            {"nodePort": 30001, "port": 80, "protocol": "TCP", "targetPort": 80},
            {"port": 81, "protocol": "TCP", "targetPort": "http"},
        ],
        "sessionAffinity": "None",
        "type": "NodePort",
    }


def test_session_affinity_lasts_three_hours_by_default() -> None:
    service = defaulted("apiVersion: v1\nkind: Service\nspec: {sessionAffinity: ClientIP}")["spec"]
    assert service["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}


def test_a_secrets_text_becomes_data() -> None:
    secret = defaulted("apiVersion: v1\nkind: Secret\nstringData: {a: hello}\ndata: {a: eA==, b: eA==}")
    assert secret["data"] == {"a": "aGVsbG8=", "b": "eA=="}
    assert secret["type"] == "Opaque"
    assert "stringData" not in secret


def test_a_namespace_is_active_and_can_be_selected_by_name() -> None:
    namespace = defaulted("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}")
    assert namespace["metadata"]["labels"] == {"kubernetes.io/metadata.name": "shop"}
    assert namespace["status"] == {"phase": "Active"}


@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: kind.name)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_applying_defaults_twice_changes_nothing(kind: kinds.Kind, data: st.DataObject) -> None:
    message = data.draw(objects(kind))
    apply_defaults(kind, message)
    once = kind.message()
    once.CopyFrom(message)
    apply_defaults(kind, message)
    assert message == once


def test_pods_of_one_spec_get_the_same_defaults_and_nothing_of_what_becomes_of_each_other() -> None:
    sent = v1.Pod(spec=v1.PodSpec(containers=[v1.Container(name="main", image="web:1")]))
    pods = [v1.Pod(), v1.Pod()]
    for pod in pods:
        pod.CopyFrom(sent)
        apply_defaults(kinds.POD, pod)
        assert pod.spec.containers[0].image_pull_policy == "IfNotPresent"
        assert pod.status.qos_class == "BestEffort"
        pod.spec.node_name = "node1"
    pods[0].spec.restart_policy = "Never"
    third = v1.Pod()
    third.CopyFrom(sent)
    apply_defaults(kinds.POD, third)
    assert (third.spec.restart_policy, third.spec.node_name) == ("Always", "")
