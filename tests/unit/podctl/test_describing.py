"""Whole pages, as a person sees them."""

import time
from typing import Any

import pytest

from podctl.describing import generic, nodes, pods, services, workloads
from podctl.describing.containers import describe_probe
from podctl.describing.page import describe_events
from podctl.tables import align
from podwire import kinds, manifest, v1
from podwire.kinds import Kind

NOW = 1_795_373_834.0  # 2026-11-22T18:57:14Z


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dates are shown in the machine's time zone."""
    monkeypatch.setattr(time, "localtime", time.gmtime)


def make(kind: Kind, tree: dict[str, Any]) -> Any:
    return manifest.from_tree(kind, tree)


def test_a_pod_with_everything() -> None:
    pod = make(
        kinds.POD,
        {
            "metadata": {
                "name": "web",
                "namespace": "default",
                "labels": {"app": "web", "tier": "front"},
                "ownerReferences": [{"kind": "ReplicaSet", "name": "web-1", "uid": "u", "controller": True}],
            },
            "spec": {
                "nodeName": "node1",
                "containers": [
                    {
                        "name": "main",
                        "image": "nginx",
                        "command": ["sh", "-c", "one\ntwo"],
                        "ports": [{"containerPort": 80}],
                        "env": [
                            {"name": "COLOUR", "value": "red"},
                            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                        ],
                        "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "1Gi"}},
                        "livenessProbe": {
                            "exec": {"command": ["cat", "/tmp/healthy"]},
                            "initialDelaySeconds": 5,
                            "timeoutSeconds": 1,
                            "periodSeconds": 5,
                            "successThreshold": 1,
                            "failureThreshold": 3,
                        },
                        "volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": True}],
                    }
                ],
                "volumes": [{"name": "data", "emptyDir": {}}],
                "tolerations": [
                    {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"},
                    {"key": "a", "operator": "Equal", "value": "b", "tolerationSeconds": 300},
                ],
            },
            "status": {
                "phase": "Running",
                "hostIP": "10.77.0.11",
                "podIP": "10.244.0.5",
                "podIPs": [{"ip": "10.244.0.5"}],
                "startTime": "2026-11-22T18:50:00Z",
                "qosClass": "Burstable",
                "conditions": [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "False"}],
                "containerStatuses": [
                    {
                        "name": "main",
                        "containerID": "containerd://c1",
                        "imageID": "docker.io/library/nginx@sha256:1",
                        "restartCount": 1,
                        "ready": True,
                        "state": {"running": {"startedAt": "2026-11-22T18:51:00Z"}},
                        "lastState": {
                            "terminated": {
                                "reason": "Error",
                                "exitCode": 137,
                                "startedAt": "2026-11-22T18:50:01Z",
                                "finishedAt": "2026-11-22T18:50:59Z",
                            }
                        },
                    }
                ],
            },
        },
    )
    assert (
        align(pods.describe(pod))
        == """\
Name:             web
Namespace:        default
Priority:         0
Service Account:  default
Node:             node1/10.77.0.11
Start Time:       Sun, 22 Nov 2026 18:50:00 +0000
Labels:           app=web
                  tier=front
Annotations:      <none>
Status:           Running
IP:               10.244.0.5
IPs:
  IP:           10.244.0.5
Controlled By:  ReplicaSet/web-1
Containers:
  main:
    Container ID:  containerd://c1
    Image:         nginx
    Image ID:      docker.io/library/nginx@sha256:1
    Port:          80/TCP
    Host Port:     0/TCP
    Command:
      sh
      -c
      one
      two
    State:          Running
      Started:      Sun, 22 Nov 2026 18:51:00 +0000
    Last State:     Terminated
      Reason:       Error
      Exit Code:    137
      Started:      Sun, 22 Nov 2026 18:50:01 +0000
      Finished:     Sun, 22 Nov 2026 18:50:59 +0000
    Ready:          True
    Restart Count:  1
    Limits:
      memory:  1Gi
    Requests:
      cpu:     100m
    Liveness:  exec [cat /tmp/healthy] delay=5s timeout=1s period=5s #success=1 #failure=3
    Environment:
      COLOUR:  red
      IP:      (v1:status.podIP)
    Mounts:
      /data from data (ro)
Conditions:
  Type         Status
  Initialized  True
  Ready        False
Volumes:
  data:
    Type:        EmptyDir (a temporary directory that shares a pod's lifetime)
    Medium:
    SizeLimit:   <unset>
QoS Class:       Burstable
Node-Selectors:  <none>
Tolerations:     node.kubernetes.io/not-ready:NoExecute op=Exists
                 a=b for 300s
"""
    )


def test_a_pod_that_waits_and_one_that_ends() -> None:
    waiting = make(
        kinds.POD,
        {
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"containers": [{"name": "main", "image": "x"}]},
            "status": {
                "phase": "Pending",
                "containerStatuses": [
                    {
                        "name": "main",
                        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}},
                    }
                ],
            },
        },
    )
    page = align(pods.describe(waiting))
    assert "Node:             <none>\n" in page
    assert "    State:          Waiting\n      Reason:       ImagePullBackOff\n" in page
    waiting.metadata.deletion_timestamp.FromJsonString("2026-11-22T18:57:44Z")
    waiting.metadata.deletion_grace_period_seconds = 30
    page = align(pods.describe(waiting))
    assert "Terminating (until Sun, 22 Nov 2026 18:57:44 +0000)\n" in page
    assert "Termination Grace Period:  30s\n" in page


NUMBERS = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
SHOWN = "delay=0s timeout=1s period=10s #success=1 #failure=3"


@pytest.mark.parametrize(
    ("probe", "text"),
    [
        ({"httpGet": {"path": "/index.html", "port": 80}}, "http-get http://:80/index.html"),
        ({"httpGet": {"path": "x", "port": "web", "scheme": "HTTPS", "host": "h"}}, "http-get https://h:web/x"),
        ({"tcpSocket": {"port": 80}}, "tcp-socket :80"),
        ({"exec": {"command": ["sh", "-c", "true"]}}, "exec [sh -c true]"),
        ({"grpc": {"port": 9000, "service": "live"}}, "grpc <pod>:9000 live"),
    ],
)
def test_probes_as_kubectl_prints_them(probe: dict[str, Any], text: str) -> None:
    tree = {"spec": {"containers": [{"name": "a", "livenessProbe": probe | NUMBERS}]}}
    pod = make(kinds.POD, tree)
    assert describe_probe(pod.spec.containers[0].liveness_probe) == f"{text} {SHOWN}"


def test_events_that_repeat_are_counted() -> None:
    tree = {
        "type": "Warning",
        "reason": "Unhealthy",
        "message": "Readiness probe failed: HTTP probe failed with statuscode: 404",
        "count": 771,
        "firstTimestamp": "2026-11-22T18:15:14Z",
        "lastTimestamp": "2026-11-22T18:57:12Z",
        "source": {"component": "podwire-agent"},
    }
    once = tree | {"type": "Normal", "reason": "Started", "message": "Started container", "count": 1}
    shown = align(describe_events([make(kinds.EVENT, once), make(kinds.EVENT, tree)], NOW))
    assert (
        shown
        == """\
Events:
  Type     Reason     Age                 From           Message
  ----     ------     ---                 ----           -------
  Normal   Started    2s                  podwire-agent  Started container
  Warning  Unhealthy  2s (x771 over 42m)  podwire-agent  Readiness probe failed: HTTP probe failed with statuscode: 404
"""
    )
    assert align(describe_events([], NOW)) == "Events:  <none>\n"


def test_a_service_shows_the_ready_addresses_of_each_port() -> None:
    service = make(
        kinds.SERVICE,
        {
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {
                "type": "NodePort",
                "selector": {"app": "web"},
                "clusterIP": "10.96.0.9",
                "clusterIPs": ["10.96.0.9"],
                "ports": [{"name": "http", "port": 80, "targetPort": "web", "nodePort": 30001}],
                "sessionAffinity": "None",
            },
        },
    )
    endpoints = make(
        kinds.ENDPOINT_SLICE,
        {
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}, {"name": "other", "port": 1}],
            "endpoints": [
                {"addresses": ["10.244.1.4"], "conditions": {"ready": True}},
                {"addresses": ["10.244.0.5"]},
                {"addresses": ["10.244.0.6"], "conditions": {"ready": False}},
            ],
        },
    )
    page = align(services.describe(service, [endpoints]))
    for line in (
        "Selector:          app=web\n",
        "IP:                10.96.0.9\n",
        "Port:              http  80/TCP\n",
        "TargetPort:        web/TCP\n",
        "NodePort:          http  30001/TCP\n",
        "Endpoints:         10.244.0.5:8080,10.244.1.4:8080\n",
    ):
        assert line in page


TEMPLATE = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "main", "image": "nginx:2"}]},
}


def test_a_deployment_tells_its_old_replica_sets_from_the_new_one() -> None:
    deployment = make(
        kinds.DEPLOYMENT,
        {
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {
                "replicas": 3,
                "selector": {"matchLabels": {"app": "web"}},
                "template": TEMPLATE,
                "strategy": {
                    "type": "RollingUpdate",
                    "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": 1},
                },
            },
            "status": {
                "replicas": 4,
                "updatedReplicas": 2,
                "availableReplicas": 3,
                "unavailableReplicas": 1,
                "conditions": [{"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"}],
            },
        },
    )

    def replica_set(name: str, image: str, replicas: int) -> v1.ReplicaSet:
        template = {
            "metadata": {"labels": {"app": "web", "pod-template-hash": name}},
            "spec": {"containers": [{"name": "main", "image": image}]},
        }
        tree = {
            "metadata": {"name": f"web-{name}"},
            "spec": {"replicas": replicas, "template": template},
            "status": {"replicas": replicas},
        }
        made: v1.ReplicaSet = make(kinds.REPLICA_SET, tree)
        return made

    sets = [replica_set("old", "nginx:1", 2), replica_set("new", "nginx:2", 2)]
    page = align(workloads.describe_deployment(deployment, sets))
    for line in (
        "Replicas:               3 desired | 2 updated | 4 total | 3 available | 1 unavailable\n",
        "RollingUpdateStrategy:  25% max unavailable, 1 max surge\n",
        "Pod Template:\n  Labels:  app=web\n  Containers:\n    main:\n      Image:        nginx:2\n",
        "  Available      True    MinimumReplicasAvailable\n",
        "OldReplicaSets:  web-old (2/2 replicas created)\n",
        "NewReplicaSet:   web-new (2/2 replicas created)\n",
    ):
        assert line in page


def test_a_replica_set_counts_its_pods() -> None:
    given = make(
        kinds.REPLICA_SET,
        {
            "metadata": {"name": "web-1", "namespace": "default"},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": TEMPLATE},
            "status": {"replicas": 3},
        },
    )
    phases = ["Running", "Running", "Pending"]
    owned = [make(kinds.POD, {"metadata": {"name": phase}, "status": {"phase": phase}}) for phase in phases]
    page = align(workloads.describe_replica_set(given, owned))
    assert "Replicas:     3 current / 3 desired\n" in page
    assert "Pods Status:  2 Running / 1 Waiting / 0 Succeeded / 0 Failed\n" in page


def test_a_node_shows_what_its_pods_ask_for() -> None:
    node = make(
        kinds.NODE,
        {
            "metadata": {"name": "node1"},
            "spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24"]},
            "status": {
                "allocatable": {"cpu": "2", "memory": "4Gi"},
                "capacity": {"cpu": "2", "memory": "4Gi"},
                "addresses": [{"type": "InternalIP", "address": "10.77.0.11"}],
            },
        },
    )

    def pod(name: str, phase: str, cpu: str, init_cpu: str = "0") -> v1.Pod:
        tree = {
            "metadata": {
                "name": name,
                "namespace": "default",
                "creationTimestamp": "2026-11-22T18:52:14Z",
            },
            "spec": {
                "containers": [{"name": "a", "resources": {"requests": {"cpu": cpu, "memory": "512Mi"}}}],
                "initContainers": [{"name": "i", "resources": {"requests": {"cpu": init_cpu}}}],
            },
            "status": {"phase": phase},
        }
        made: v1.Pod = make(kinds.POD, tree)
        return made

    on_it = [pod("web", "Running", "250m"), pod("init", "Pending", "100m", "250m"), pod("done", "Succeeded", "1")]
    page = align(nodes.describe(node, on_it, NOW))
    for line in (
        "Non-terminated Pods:          (2 in total)\n",
        "  default                     web   250m          0           512Mi            0              5m\n",
        "  default                     init  250m          0           512Mi            0              5m\n",
        "  cpu       500m (25%)  0 (0%)\n",
        "  memory    1Gi (25%)   0 (0%)\n",
    ):
        assert line in page


@pytest.mark.parametrize(
    ("kind", "tree", "lines"),
    [
        (kinds.NAMESPACE, {"status": {"phase": "Active"}}, ["Status:             Active\n"]),
        (
            kinds.CONFIG_MAP,
            {"data": {"a.conf": "one\ntwo\n", "b": "x"}},
            ["Data:\n  a.conf:\n    one\n    two\n", "  b:  x\n"],
        ),
        (kinds.SECRET, {"type": "Opaque", "data": {"key": "c2VjcmV0"}}, ["Data:\n  key:  6 bytes\n"]),
        (
            kinds.ENDPOINT_SLICE,
            {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "n"}]},
            ["Address Type:       IPv4\n", "  -\n    addresses:  10.0.0.1\n    nodeName:   n\n"],
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Kind) else "",
)
def test_other_kinds_are_shown_as_they_are(kind: Kind, tree: dict[str, Any], lines: list[str]) -> None:
    tree["metadata"] = {"name": "thing", "creationTimestamp": "2026-11-22T18:52:14Z"}
    page = align(generic.describe(kind, make(kind, tree)))
    for line in lines:
        assert line in page, page


def test_a_secret_is_not_shown() -> None:
    secret = make(kinds.SECRET, {"metadata": {"name": "s"}, "data": {"key": "c2VjcmV0"}})
    page = generic.describe(kinds.SECRET, secret)
    assert "secret" not in page and "c2VjcmV0" not in page
