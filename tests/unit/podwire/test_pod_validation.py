"""What a pod may be."""

import pytest

from podwire import kinds
from tests.unit.podwire.cases import POD, changed, check, problems, table

METADATA_CASES = """
name: Web
    name: Invalid value: "Web": a lowercase RFC 1123 subdomain must consist of
name: web.example-1
    ok
name: ''
    name: Required value: name or generateName is required
namespace: a.b
    namespace: Invalid value: "a.b": a lowercase RFC 1123 label
labels: {example.com/app: web_1.x}
    ok
labels: {a b: c}
    labels: Invalid value: "a b": name part must consist of
labels: {/a: c}
    labels: Invalid value: "/a": prefix part must be
labels: {a: c d}
    labels[a]: Invalid value: "c d": a valid label must be
labels: {a: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx}
    labels[a]: Invalid value: …must be no more than 63
annotations: {Example.com/x: any thing}
    ok
ownerReferences: [{apiVersion: v1, kind: Pod, name: a}]
    ownerReferences[0].uid: Required value
"""

SPEC_CASES = """
containers: []
    containers: Required value
initContainers: [{name: web, image: a}]
    containers[0].name: Duplicate value: "web"
initContainers: [{name: i, image: a, livenessProbe: {tcpSocket: {port: 1}}}]
    initContainers[0].livenessProbe: Forbidden: may not be set for init containers
initContainers: [{name: i, image: a, restartPolicy: Always, livenessProbe: {tcpSocket: {port: 1}}}]
    ok
restartPolicy: Sometimes
    restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"
terminationGracePeriodSeconds: -1
    terminationGracePeriodSeconds: Invalid value: -1
activeDeadlineSeconds: 0
    activeDeadlineSeconds: Invalid value: 0: must be between 1 and
dnsPolicy: Mine
    dnsPolicy: Unsupported value: "Mine"
dnsPolicy: None
    dnsConfig.nameservers: Required value: must provide at least one
hostname: a.b
    hostname: Invalid value: "a.b"
nodeSelector: {disk: s s d}
    nodeSelector[disk]: Invalid value: "s s d"
hostAliases: [{ip: 10.0.0, hostnames: [a]}]
    hostAliases[0].ip: Invalid value: "10.0.0": must be
tolerations: [{operator: Exists}, {key: a, value: b, effect: NoExecute, tolerationSeconds: 3}]
    ok
tolerations: [{operator: Equal}]
    tolerations[0].operator: Invalid value: "Equal": operator must
tolerations: [{key: a, operator: In}]
    tolerations[0].operator: Unsupported value: "In"
affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: ''}]}}
    affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value
topologySpreadConstraints: [{maxSkew: 0, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]
    topologySpreadConstraints[0].maxSkew: Invalid value: 0
volumes: [{name: a, emptyDir: {}}, {name: b, hostPath: {path: /b}}]
    ok
volumes: [{name: a}]
    ok
volumes: [{name: a}, {name: a}]
    volumes[1].name: Duplicate value: "a"
volumes: [{name: a, emptyDir: {}, hostPath: {path: /b}}]
    volumes[0].emptyDir: Forbidden: may not
volumes: [{name: a, hostPath: {path: ''}}]
    volumes[0].hostPath.path: Required value
volumes: [{name: a, hostPath: {path: /a/../b}}]
    volumes[0].hostPath.path: Invalid value: …must not
volumes: [{name: a, hostPath: {path: /a, type: Folder}}]
    volumes[0].hostPath.type: Unsupported value
volumes: [{name: a, emptyDir: {sizeLimit: -1}}]
    volumes[0].emptyDir.sizeLimit: Invalid value
volumes: [{name: a, configMap: {name: a, defaultMode: 512}}]
    volumes[0].configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777
volumes: [{name: a, secret: {}}]
    volumes[0].secret.secretName: Required value
volumes: [{name: a, secret: {secretName: a, items: [{key: a, path: ../a}]}}]
    volumes[0].secret.items[0].path: Invalid value: "../a": must not contain '..'
volumes: [{name: a, projected: {sources: [{}]}}]
    volumes[0].projected.sources[0]: Invalid value
"""

CONTAINER_CASES = """
name: Web
    name: Invalid value: "Web": a lowercase RFC 1123 label
image: ''
    image: Required value
image: ' a'
    image: Invalid value: " a": must not have leading
imagePullPolicy: Often
    imagePullPolicy: Unsupported value: "Often": supported values: "Always", "IfNotPresent", "Never"
ports: [{containerPort: 65535, name: http}]
    ok
ports: [{}]
    ports[0].containerPort: Required value
ports: [{containerPort: 65536}]
    ports[0].containerPort: Invalid value: 65536: must be between 1 and 65535, inclusive
ports: [{containerPort: -1}]
    ports[0].containerPort: Invalid value: -1
ports: [{containerPort: 1, protocol: HTTP}]
    ports[0].protocol: Unsupported value
ports: [{containerPort: 1, name: sixteen-letters-}]
    ports[0].name: Invalid value: "sixteen-letters-": must be no more than 15 characters
ports: [{containerPort: 1, name: '80'}]
    ports[0].name: Invalid value:
ports: [{containerPort: 1, name: a}, {containerPort: 2, name: a}]
    ports[1].name: Duplicate value: "a"
ports: [{containerPort: 1, hostPort: 8}, {containerPort: 2, hostPort: 8}]
    ports[1].hostPort: Duplicate value
env: [{name: my.NAME-1, value: a}]
    ok
env: [{name: a=b}]
    env[0].name: Invalid value: "a=b"
env: [{value: a}]
    env[0].name: Required value
env: [{name: A, valueFrom: {}}]
    env[0].valueFrom: Invalid value: …must
env: [{name: A, valueFrom: {configMapKeyRef: {name: a, key: ''}}}]
    env[0].valueFrom.configMapKeyRef.key: Required value
envFrom: [{prefix: A_}]
    envFrom[0]: Invalid value: …must specify exact
volumeMounts: [{name: a, mountPath: /a}]
    volumeMounts[0].name: Not found: "a": no volume of the pod has this name
resources: {requests: {cpu: 100m, example.com/gpu: 1}}
    ok
resources: {requests: {gpu: 1}}
    resources.requests[gpu]: Invalid value
resources: {requests: {cpu: -1}}
    resources.requests[cpu]: Invalid value: "-1": must be greater than or equal to 0
resources: {requests: {cpu: 2}, limits: {cpu: 1500m}}
    resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1500m
livenessProbe: {tcpSocket: {port: http}}
    ok
livenessProbe: {}
    livenessProbe: Required value: must specify a handler
livenessProbe: {exec: {command: [a]}, tcpSocket: {port: 1}}
    livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type
livenessProbe: {exec: {}}
    livenessProbe.exec.command: Required value
livenessProbe: {httpGet: {}}
    livenessProbe.httpGet.port: Required value
livenessProbe: {httpGet: {port: 70000}}
    livenessProbe.httpGet.port: Invalid value: 70000
livenessProbe: {httpGet: {port: 80, scheme: FTP}}
    livenessProbe.httpGet.scheme: Unsupported value: "FTP": supported values: "HTTP", "HTTPS"
livenessProbe: {httpGet: {port: 80, httpHeaders: [{name: 'a b'}]}}
    livenessProbe.httpGet.httpHeaders[0].name: Invalid value: "a b": a valid HTTP header
livenessProbe: {tcpSocket: {port: 1}, periodSeconds: -1}
    livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 1
livenessProbe: {tcpSocket: {port: 1}, initialDelaySeconds: -1}
    livenessProbe.initialDelaySeconds: Invalid value: -1: must be greater than or equal to 0
livenessProbe: {tcpSocket: {port: 1}, timeoutSeconds: -1}
    livenessProbe.timeoutSeconds: Invalid value
livenessProbe: {tcpSocket: {port: 1}, failureThreshold: -1}
    livenessProbe.failureThreshold: Invalid value
livenessProbe: {tcpSocket: {port: 1}, successThreshold: 2}
    livenessProbe.successThreshold: Invalid value: 2: must be 1
readinessProbe: {tcpSocket: {port: 1}, successThreshold: 2}
    ok
readinessProbe: {tcpSocket: {port: 1}, terminationGracePeriodSeconds: 3}
    readinessProbe.terminationGracePeriodSeconds: Invalid value: 3: must not be set for
restartPolicy: Always
    restartPolicy: Forbidden: may not be set for non-
lifecycle: {preStop: {sleep: {seconds: 3}}}
    ok
lifecycle: {preStop: {}}
    lifecycle.preStop: Required value
securityContext: {runAsUser: -1}
    securityContext.runAsUser: Invalid value
securityContext: {privileged: true, allowPrivilegeEscalation: false}
    securityContext.allowPrivilegeEscalation: Invalid value
securityContext: {seccompProfile: {type: Localhost}}
    securityContext.seccompProfile.localhostProfile: Required value
"""

MOUNT_CASES = """
volumeMounts: [{name: a, mountPath: /a, subPath: b/c}]
    ok
volumeMounts: [{name: a, mountPath: a}]
    volumeMounts[0].mountPath: Invalid value: "a": must be an absolute
volumeMounts: [{name: a, mountPath: ''}]
    volumeMounts[0].mountPath: Required value
volumeMounts: [{name: a, mountPath: '/a:b'}]
    volumeMounts[0].mountPath: Invalid value: …must not contain
volumeMounts: [{name: a, mountPath: /a, subPath: ../b}]
    volumeMounts[0].subPath: Invalid value
volumeMounts: [{name: a, mountPath: /a, subPath: /b}]
    volumeMounts[0].subPath: Invalid value
volumeMounts: [{name: a, mountPath: /a, mountPropagation: Bidirectional}]
    volumeMounts[0].mountPropagation: Forbidden
"""


@pytest.mark.parametrize("case", table(METADATA_CASES), ids=lambda case: case[0])
def test_metadata_follows_the_rules(case: tuple[str, str]) -> None:
    check(kinds.POD, POD, "metadata", case)


@pytest.mark.parametrize("case", table(SPEC_CASES), ids=lambda case: case[0])
def test_a_spec_follows_the_rules(case: tuple[str, str]) -> None:
    check(kinds.POD, POD, "spec", case)


@pytest.mark.parametrize("case", table(CONTAINER_CASES), ids=lambda case: case[0])
def test_a_container_follows_the_rules(case: tuple[str, str]) -> None:
    check(kinds.POD, POD, "spec.containers[0]", case)


@pytest.mark.parametrize("case", table(MOUNT_CASES), ids=lambda case: case[0])
def test_a_mount_follows_the_rules(case: tuple[str, str]) -> None:
    check(kinds.POD, changed(POD, "spec", "volumes: [{name: a, emptyDir: {}}]"), "spec.containers[0]", case)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (f"name: {'a' * 254}", "must be no more than 253 characters"),
        (f"annotations: {{a: {'x' * 262144}}}", "metadata.annotations: Too long: may not be more than 262144 bytes"),
    ],
    ids=["name", "annotations"],
)
def test_metadata_has_limits(change: str, says: str) -> None:
    [problem] = problems(kinds.POD, changed(POD, "metadata", change))
    assert says in problem


def test_all_errors_of_an_object_come_at_once() -> None:
    tree = changed(POD, "spec.containers[0]", "{name: A, image: '', ports: [{}], livenessProbe: {periodSeconds: -3}}")
    found = problems(kinds.POD, changed(tree, "spec", "restartPolicy: Sometimes"))
    assert [problem.partition(": ")[0] for problem in found] == [
        "spec.containers[0].name",
        "spec.containers[0].image",
        "spec.containers[0].ports[0].containerPort",
        "spec.containers[0].livenessProbe",
        "spec.containers[0].livenessProbe.periodSeconds",
        "spec.restartPolicy",
    ]


def test_a_pod_like_one_that_was_sound_is_looked_through_where_it_differs() -> None:
    sound = changed(POD, "metadata", "name: one")
    assert problems(kinds.POD, sound) == []
    assert problems(kinds.POD, changed(POD, "metadata", "name: two")) == []
    assert problems(kinds.POD, changed(POD, "metadata", "name: Three")) != []
    assert problems(kinds.POD, changed(POD, "spec", "restartPolicy: Sometimes")) != []
    assert problems(kinds.POD, changed(POD, "spec", "restartPolicy: Sometimes")) != []
