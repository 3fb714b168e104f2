"""What objects other than pods may be, what may change of them, and what is warned of."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podwire import kinds
from podwire.defaults import apply_defaults
from podwire.kinds import Kind
from podwire.validation import validate, validate_update, warnings
from tests.unit.podwire.cases import METADATA, POD, SERVICE, WORKLOAD, changed, check, made, problems, table
from tests.unit.podwire.messages import objects

WORKLOAD_CASES = """
replicas: 0
    ok
replicas: -1
    replicas: Invalid value: -1: must be greater than or equal to 0
selector: {}
    selector: Required value: an empty selector is invalid for a
selector: {matchLabels: {app: db}}
    template.metadata.labels: Invalid value: "app=web": `selector` does not match template `labels`
selector: {matchExpressions: [{key: app, operator: In, values: [web, db]}]}
    ok
selector: {matchExpressions: [{key: app, operator: Is}]}
    selector.matchExpressions[0].operator: Unsupported value
"""

TEMPLATE_CASES = """
restartPolicy: Never
    restartPolicy: Unsupported value: "Never": supported values: "Always"
activeDeadlineSeconds: 3
    activeDeadlineSeconds: Forbidden
containers: [{name: web}]
    containers[0].image: Required value
"""

STRATEGY_CASES = """
{type: Recreate}
    ok
{rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
    ok
{type: Sudden}
    type: Unsupported value: "Sudden": supported values: "Recreate", "RollingUp
{type: Recreate, rollingUpdate: {}}
    rollingUpdate: Forbidden: may not be specified when
{rollingUpdate: {maxSurge: 0, maxUnavailable: 0%}}
    rollingUpdate.maxUnavailable: Invalid value: 0
{rollingUpdate: {maxSurge: half}}
    rollingUpdate.maxSurge: Invalid value: "half": must be an int
{rollingUpdate: {maxSurge: -1}}
    rollingUpdate.maxSurge: Invalid value: -1
{rollingUpdate: {maxUnavailable: 101%}}
    rollingUpdate.maxUnavailable: Invalid value: "101%"
"""

SERVICE_CASES = """
type: NodePort
    ok
type: Anything
    type: Unsupported value: "Anything"
ports: []
    ports: Required value
ports: [{port: 0, targetPort: http}]
    ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
ports: [{port: 80, targetPort: Http}]
    ports[0].targetPort: Invalid value: "Http"
ports: [{port: 80, nodePort: 30001}]
    ports[0].nodePort: Forbidden: may not be used when `type` is
ports: [{port: 80, name: a}, {port: 81, name: a}]
    ports[1].name: Duplicate value: "a"
ports: [{port: 80, name: a}, {port: 80, name: b}]
    ports[1]: Duplicate value: "80/TCP"
ports: [{port: 53, name: a}, {port: 53, name: b, protocol: UDP}]
    ok
ports: [{port: 80, name: a}, {port: 81}]
    ports[1].name: Required value
clusterIP: None
    ok
clusterIP: 10.96.0.x
    clusterIP: Invalid value: "10.96.0.x": must be a valid IP address
externalIPs: [a]
    externalIPs[0]: Invalid value: "a"
sessionAffinity: Cookie
    sessionAffinity: Unsupported value: "Cookie"
sessionAffinityConfig: {clientIP: {timeoutSeconds: 3}}
    sessionAffinityConfig: Forbidden
externalTrafficPolicy: Local
    externalTrafficPolicy: Invalid value: "Local": may only be set for
internalTrafficPolicy: Near
    internalTrafficPolicy: Unsupported value: "Near"
ipFamilies: [IPv5]
    ipFamilies[0]: Unsupported value: "IPv5"
{type: ExternalName, externalName: example.com}
    ok
{type: ExternalName}
    externalName: Required value
{type: NodePort, clusterIP: None, ports: [{port: 1}]}
    clusterIP: Invalid value: "None": may not be set
{clusterIP: None}
    ok
{type: NodePort, ports: [{port: 1, name: a, nodePort: 30001}, {port: 2, name: b, nodePort: 30001}]}
    ports[1].nodePort: Duplicate value: "30001/TCP"
"""

CONFIG_MAP_CASES = """
{data: {key.name: a}, binaryData: {other: YQ==}}
    ok
data: {a/b: a}
    data[a/b]: Invalid value: "a/b": a valid config key must
data: {'..a': a}
    data[..a]: Invalid value: "..a": must not be '.' or start with '..'
{data: {a: a}, binaryData: {a: YQ==}}
    binaryData[a]: Duplicate value: "a"
"""

SECRET_CASES = """
stringData: {a: b}
    ok
{type: kubernetes.io/tls, stringData: {tls.crt: a}}
    data[tls.key]: Required value
{type: kubernetes.io/dockerconfigjson, stringData: {.dockerconfigjson: a}}
    data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": must be valid JSON
type: kubernetes.io/basic-auth
    data[username]: Required value
"""

ENDPOINT_SLICE_CASES = """
{addressType: IPv4, endpoints: [{addresses: [10.0.0.1]}], ports: [{port: 80}]}
    ok
addressType: IPv9
    addressType: Unsupported value: "IPv9"
{addressType: IPv4, endpoints: [{}]}
    endpoints[0].addresses: Required value
{addressType: IPv4, endpoints: [{addresses: [a]}]}
    endpoints[0].addresses[0]: Invalid value: "a"
"""

EVENT_CASES = """
type: Normal
    ok
type: Bad
    type: Unsupported value: "Bad": supported values: "Normal", "Warning"
{type: Normal, involvedObject: {namespace: shop}}
    involvedObject.namespace: Invalid value
"""

NODE_CASES = """
spec: {podCIDR: 10.244.0.0/24}
    ok
metadata: {name: n1, namespace: a}
    metadata.namespace: Forbidden: a Node belongs to no namespace
spec: {podCIDR: 10.244.0.0/33}
    spec.podCIDR: Invalid value
spec: {taints: [{key: a, effect: Run}]}
    spec.taints[0].effect: Unsupported value: "Run"
status: {capacity: {cpu: -1}, allocatable: {cpu: 1}}
    status.capacity[cpu]: Invalid value: "-1"
"""

NAMESPACE_CASES = """
metadata: {name: shop}
    ok
metadata: {name: a.b}
    metadata.name: Invalid value: "a.b": a lowercase RFC 1123 label must
"""

IN_A_NAMESPACE: dict[str, Any] = {"metadata": METADATA}
ALONE: dict[str, Any] = {"metadata": {"name": "n1"}}


@pytest.mark.parametrize("kind", [kinds.DEPLOYMENT, kinds.REPLICA_SET], ids=lambda kind: kind.name)
@pytest.mark.parametrize("case", table(WORKLOAD_CASES), ids=lambda case: case[0])
def test_a_workload_follows_the_rules(kind: Kind, case: tuple[str, str]) -> None:
    check(kind, WORKLOAD, "spec", case)


@pytest.mark.parametrize("kind", [kinds.DEPLOYMENT, kinds.REPLICA_SET], ids=lambda kind: kind.name)
@pytest.mark.parametrize("case", table(TEMPLATE_CASES), ids=lambda case: case[0])
def test_a_template_follows_the_rules(kind: Kind, case: tuple[str, str]) -> None:
    check(kind, WORKLOAD, "spec.template.spec", case)


@pytest.mark.parametrize("case", table(STRATEGY_CASES), ids=lambda case: case[0])
def test_a_strategy_follows_the_rules(case: tuple[str, str]) -> None:
    check(kinds.DEPLOYMENT, WORKLOAD, "spec.strategy", case)


def test_a_deadline_must_leave_time_to_become_ready() -> None:
    says = "progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds"
    check(kinds.DEPLOYMENT, WORKLOAD, "spec", ("minReadySeconds: 600", says))


@pytest.mark.parametrize("case", table(SERVICE_CASES), ids=lambda case: case[0])
def test_a_service_follows_the_rules(case: tuple[str, str]) -> None:
    check(kinds.SERVICE, SERVICE, "spec", case)


def test_a_services_name_begins_with_a_letter() -> None:
    check(kinds.SERVICE, SERVICE, "metadata", ("name: 1web", 'name: Invalid value: "1web": a DNS-1035 label must'))


@pytest.mark.parametrize(
    ("kind", "tree", "case"),
    [
        (kind, tree, case)
        for kind, tree, cases in (
            (kinds.CONFIG_MAP, IN_A_NAMESPACE, CONFIG_MAP_CASES),
            (kinds.SECRET, IN_A_NAMESPACE, SECRET_CASES),
            (kinds.ENDPOINT_SLICE, IN_A_NAMESPACE, ENDPOINT_SLICE_CASES),
            (kinds.EVENT, IN_A_NAMESPACE, EVENT_CASES),
            (kinds.NODE, ALONE, NODE_CASES),
            (kinds.NAMESPACE, ALONE, NAMESPACE_CASES),
        )
        for case in table(cases)
    ],
    ids=lambda value: value.name if isinstance(value, Kind) else value[0] if isinstance(value, tuple) else "",
)
def test_an_object_of_another_kind_follows_the_rules(kind: Kind, tree: dict[str, Any], case: tuple[str, str]) -> None:
    check(kind, tree, "", case)


@pytest.mark.parametrize("kind", [kinds.CONFIG_MAP, kinds.SECRET], ids=lambda kind: kind.name)
def test_data_has_at_most_a_mebibyte(kind: Kind) -> None:
    field = "data" if kind is kinds.CONFIG_MAP else "stringData"
    found = problems(kind, {"metadata": METADATA, field: {"a": "x" * 1048576, "b": "y"}})
    assert found == ["data: Too long: may not be more than 1048576 bytes in all, and is 1048577"]


WITH_ADDRESS = changed(SERVICE, "spec", "clusterIP: 10.96.0.9")
WITH_CIDR = changed(ALONE, "", "spec: {podCIDR: 10.0.0.0/24}")
IMMUTABLE = changed(IN_A_NAMESPACE, "", "immutable: true")


@pytest.mark.parametrize(
    ("kind", "tree", "at", "change", "paths"),
    [
        (kinds.POD, POD, "metadata", "labels: {a: b}", []),
        (kinds.POD, POD, "spec.containers[0]", "image: nginx:1.26", []),
        (kinds.POD, POD, "spec", "activeDeadlineSeconds: 60", []),
        (kinds.POD, POD, "spec", "tolerations: [{operator: Exists}]", []),
        (kinds.POD, POD, "spec", "nodeName: n1", ["spec.nodeName"]),
        (kinds.POD, POD, "spec.containers[0]", "command: [a]", ["spec.containers[0].command"]),
        (kinds.POD, POD, "spec", "containers: []", ["spec.containers"]),
        (kinds.POD, POD, "spec", "restartPolicy: Never", ["spec.restartPolicy"]),
        (kinds.POD, POD, "metadata", "name: other", ["metadata.name"]),
        (kinds.DEPLOYMENT, WORKLOAD, "spec", "replicas: 3", []),
        (kinds.DEPLOYMENT, WORKLOAD, "spec.selector", "matchLabels: {a: b}", ["spec.selector"]),
        (kinds.REPLICA_SET, WORKLOAD, "spec.selector", "matchLabels: {a: b}", ["spec.selector"]),
        (kinds.SERVICE, WITH_ADDRESS, "spec", "ports: [{port: 81}]", []),
        (kinds.SERVICE, WITH_ADDRESS, "spec", "clusterIP: 10.96.0.8", ["spec.clusterIP"]),
        (kinds.SERVICE, SERVICE, "spec", "clusterIP: 10.96.0.8", []),
        (kinds.CONFIG_MAP, IN_A_NAMESPACE, "", "data: {a: b}", []),
        (kinds.CONFIG_MAP, IMMUTABLE, "", "data: {a: b}", ["data"]),
        (kinds.CONFIG_MAP, IMMUTABLE, "", "immutable: false", ["immutable"]),
        (kinds.SECRET, IMMUTABLE, "", "data: {a: YQ==}", ["data"]),
        (kinds.SECRET, IN_A_NAMESPACE, "", "type: kubernetes.io/ssh-auth", ["type"]),
        (kinds.NODE, WITH_CIDR, "spec", "podCIDR: 10.0.1.0/24", ["spec.podCIDR"]),
        (kinds.NODE, ALONE, "spec", "podCIDR: 10.0.1.0/24", []),
    ],
)
def test_what_may_change_of_an_object(kind: Kind, tree: dict[str, Any], at: str, change: str, paths: list[str]) -> None:
    found = validate_update(kind, made(kind, tree), made(kind, changed(tree, at, change)))
    assert [error.path for error in found] == paths


def test_a_deadline_can_be_made_shorter_but_not_longer() -> None:
    short, long = (made(kinds.POD, changed(POD, "spec", f"activeDeadlineSeconds: {n}")) for n in (10, 20))
    assert validate_update(kinds.POD, long, short) == []
    assert [error.path for error in validate_update(kinds.POD, short, long)] == ["spec.activeDeadlineSeconds"]


@pytest.mark.parametrize(
    ("kind", "tree", "at", "change", "path"),
    [
        (kinds.POD, POD, "metadata", "labels: {a: b}", ""),
        (kinds.POD, POD, "spec.containers[0]", "startupProbe: {tcpSocket: {port: 1}}", ".startupProbe"),
        (kinds.POD, POD, "spec.containers[0]", "lifecycle: {preStop: {sleep: {seconds: 1}}}", ".lifecycle.preStop"),
        (kinds.POD, POD, "spec.containers[0]", "resources: {limits: {cpu: 1}}", ".resources.limits"),
        (
            kinds.POD,
            POD,
            "spec.containers[0]",
            "env: [{name: A}, {name: B, valueFrom: {fieldRef: {}}}]",
            ".env[1].valueFrom",
        ),
        (kinds.POD, POD, "spec", "volumes: [{name: a, emptyDir: {}}, {configMap: {name: b}}]", ".volumes[1].configMap"),
        (kinds.DEPLOYMENT, WORKLOAD, "spec.template.spec", "affinity: {podAffinity: {}}", ".affinity"),
        (kinds.SERVICE, SERVICE, "spec", "externalIPs: [10.0.0.9]", ".externalIPs"),
        (kinds.SERVICE, SERVICE, "spec", "type: NodePort", ""),
        (kinds.SERVICE, SERVICE, "spec", "type: LoadBalancer", ".type"),
        (kinds.CONFIG_MAP, IN_A_NAMESPACE, "", "data: {a: b}", ""),
    ],
)
def test_fields_without_an_effect_are_warned_of(
    kind: Kind, tree: dict[str, Any], at: str, change: str, path: str
) -> None:
    found = warnings(kind, made(kind, changed(tree, at, change)))
    assert [warning.partition(": ")[0] for warning in found] == ([at + path] if path else [])


@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: kind.name)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_message_whatsoever_breaks_validation(kind: Kind, data: st.DataObject) -> None:
    old, new = data.draw(objects(kind)), data.draw(objects(kind))
    apply_defaults(kind, new)
    validate(kind, new)
    validate_update(kind, old, new)
    warnings(kind, new)
