"""The rows of every kind."""

from typing import Any

import pytest

from podctl.columns import cells, columns_of, headers
from podwire import kinds, manifest
from podwire.kinds import Kind

NOW = 1_795_373_834.0  # 2026-11-22T18:57:14Z
CREATED = {"creationTimestamp": "2026-11-22T18:52:14Z"}


def row(kind: Kind, tree: dict[str, Any], *, wide: bool = False, qualify: bool = False) -> dict[str, str]:
    tree["metadata"] = {"name": "web", "namespace": "default", **CREATED, **tree.get("metadata", {})}
    if not kind.namespaced:
        del tree["metadata"]["namespace"]
    columns = columns_of(kind, wide=wide)
    return dict(
        zip(headers(columns), cells(kind, columns, manifest.from_tree(kind, tree), NOW, qualify=qualify), strict=True)
    )


TEMPLATE = {
    "selector": {"matchLabels": {"app": "web"}},
    "template": {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "a", "image": "nginx"}, {"name": "b", "image": "busybox"}]},
    },
}
WORKLOAD = {"CONTAINERS": "a,b", "IMAGES": "nginx,busybox", "SELECTOR": "app=web"}


@pytest.mark.parametrize(
    ("kind", "tree", "narrow", "wide"),
    [
        (
            kinds.POD,
            {
                "spec": {"nodeName": "node1", "containers": [{"name": "a", "image": "x"}]},
                "status": {"phase": "Pending", "podIP": "10.244.0.5"},
            },
            {"NAME": "web", "READY": "0/1", "STATUS": "Pending", "RESTARTS": "0", "AGE": "5m"},
            {"IP": "10.244.0.5", "NODE": "node1", "NOMINATED NODE": "<none>", "READINESS GATES": "<none>"},
        ),
        (
            kinds.SERVICE,
            {
                "spec": {
                    "type": "NodePort",
                    "clusterIP": "10.96.0.9",
                    "selector": {"app": "web"},
                    "ports": [{"port": 80, "nodePort": 30001}, {"port": 53, "protocol": "UDP"}],
                }
            },
            {
                "NAME": "web",
                "TYPE": "NodePort",
                "CLUSTER-IP": "10.96.0.9",
                "EXTERNAL-IP": "<none>",
                "PORT(S)": "80:30001/TCP,53/UDP",
                "AGE": "5m",
            },
            {"SELECTOR": "app=web"},
        ),
        (
            kinds.DEPLOYMENT,
            {
                "spec": {"replicas": 3, **TEMPLATE},
                "status": {"readyReplicas": 1, "updatedReplicas": 3, "availableReplicas": 1},
            },
            {"NAME": "web", "READY": "1/3", "UP-TO-DATE": "3", "AVAILABLE": "1", "AGE": "5m"},
            WORKLOAD,
        ),
        (
            kinds.REPLICA_SET,
            {"spec": {"replicas": 3, **TEMPLATE}, "status": {"replicas": 2, "readyReplicas": 1}},
            {"NAME": "web", "DESIRED": "3", "CURRENT": "2", "READY": "1", "AGE": "5m"},
            WORKLOAD,
        ),
        (
            kinds.NODE,
            {
                "metadata": {"labels": {"node-role.kubernetes.io/worker": ""}},
                "spec": {"unschedulable": True},
                "status": {
                    "conditions": [{"type": "Ready", "status": "True"}],
                    "addresses": [{"type": "InternalIP", "address": "10.77.0.11"}],
                    "nodeInfo": {
                        "kubeletVersion": "0.1.0",
                        "osImage": "Debian GNU/Linux 12",
                        "kernelVersion": "6.1",
                        "containerRuntimeVersion": "containerd://1.6.20",
                    },
                },
            },
            {"NAME": "web", "STATUS": "Ready,SchedulingDisabled", "ROLES": "worker", "AGE": "5m", "VERSION": "0.1.0"},
            {
                "INTERNAL-IP": "10.77.0.11",
                "EXTERNAL-IP": "<none>",
                "OS-IMAGE": "Debian GNU/Linux 12",
                "KERNEL-VERSION": "6.1",
                "CONTAINER-RUNTIME": "containerd://1.6.20",
            },
        ),
        (
            kinds.ENDPOINT_SLICE,
            {
                "addressType": "IPv4",
                "endpoints": [{"addresses": [f"10.244.0.{number}"]} for number in range(1, 6)],
                "ports": [{"port": 80}],
            },
            {
                "NAME": "web",
                "ADDRESSTYPE": "IPv4",
                "PORTS": "80",
                "ENDPOINTS": "10.244.0.1,10.244.0.2,10.244.0.3 + 2 more...",
                "AGE": "5m",
            },
            {},
        ),
        (
            kinds.NAMESPACE,
            {"status": {"phase": "Active"}},
            {"NAME": "web", "STATUS": "Active", "AGE": "5m"},
            {},
        ),
        (
            kinds.CONFIG_MAP,
            {"data": {"a": "1"}, "binaryData": {"b": "AA=="}},
            {"NAME": "web", "DATA": "2", "AGE": "5m"},
            {},
        ),
        (
            kinds.SECRET,
            {"type": "Opaque", "data": {"a": "AA=="}},
            {"NAME": "web", "TYPE": "Opaque", "DATA": "1", "AGE": "5m"},
            {},
        ),
        (
            kinds.EVENT,
            {
                "type": "Warning",
                "reason": "Unhealthy",
                "message": "Readiness probe failed\n",
                "count": 7,
                "firstTimestamp": "2026-11-22T18:50:14Z",
                "lastTimestamp": "2026-11-22T18:57:04Z",
                "involvedObject": {"kind": "Pod", "name": "web", "fieldPath": "spec.containers{main}"},
                "source": {"component": "podwire-agent", "host": "node1"},
            },
            {
                "LAST SEEN": "10s",
                "TYPE": "Warning",
                "REASON": "Unhealthy",
                "OBJECT": "pod/web",
                "MESSAGE": "Readiness probe failed",
            },
            {
                "SUBOBJECT": "spec.containers{main}",
                "SOURCE": "podwire-agent, node1",
                "FIRST SEEN": "7m",
                "COUNT": "7",
                "NAME": "web",
            },
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Kind) else "",
)
def test_rows(kind: Kind, tree: dict[str, Any], narrow: dict[str, str], wide: dict[str, str]) -> None:
    assert row(kind, tree) == narrow
    assert row(kind, tree, wide=True) == narrow | wide


def test_wide_columns_come_after_the_others_except_in_events() -> None:
    for kind in kinds.KINDS:
        if kind is not kinds.EVENT:
            narrow, wide = headers(columns_of(kind)), headers(columns_of(kind, wide=True))
            assert wide[: len(narrow)] == narrow


def test_names_are_qualified_in_tables_of_several_kinds() -> None:
    assert row(kinds.DEPLOYMENT, {"spec": TEMPLATE}, qualify=True)["NAME"] == "deployment.apps/web"


@pytest.mark.parametrize(
    ("conditions", "status"),
    [
        ([{"type": "Ready", "status": "True"}], "Ready"),
        ([{"type": "Ready", "status": "False"}], "NotReady"),
        ([{"type": "Ready", "status": "Unknown"}], "NotReady"),
        ([], "Unknown"),
    ],
)
def test_a_node_is_ready_only_if_it_says_so(conditions: list[dict[str, str]], status: str) -> None:
    assert row(kinds.NODE, {"status": {"conditions": conditions}})["STATUS"] == status


@pytest.mark.parametrize(
    ("spec", "status", "address"),
    [
        ({"type": "LoadBalancer"}, {}, "<pending>"),
        ({"type": "LoadBalancer"}, {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}, "1.2.3.4"),
        ({"type": "ExternalName", "externalName": "example.com"}, {}, "example.com"),
        ({"type": "ClusterIP", "externalIPs": ["1.2.3.4", "1.2.3.5"]}, {}, "1.2.3.4,1.2.3.5"),
    ],
)
def test_external_addresses(spec: dict[str, Any], status: dict[str, Any], address: str) -> None:
    assert row(kinds.SERVICE, {"spec": spec, "status": status})["EXTERNAL-IP"] == address
