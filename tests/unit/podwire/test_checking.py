"""One look finds everything that is wrong with a manifest."""

import textwrap

import pytest

from podwire import checking, manifest, v1
from podwire.errors import Invalid


def checked(text: str, namespace: str = "") -> v1.Pod:
    [document] = manifest.load(textwrap.dedent(text), "web.yaml")
    pod: v1.Pod = checking.check(document, namespace)
    return pod


def test_a_good_object_has_its_defaults_and_a_namespace() -> None:
    pod = checked(
        "{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {containers: [{name: a, image: a}]}}", "shop"
    )
    assert (pod.metadata.namespace, pod.spec.restart_policy) == ("shop", "Always")


def test_what_cannot_be_read_and_what_may_not_be_come_together() -> None:
    with pytest.raises(Invalid) as raised:
        checked("""\
            apiVersion: v1
            kind: Pod
            metadata: {name: Web}
            spec:
              restartPolicy: 3
              containers:
              - name: a
                imagee: nginx
                ports: [{containerPort: 70000}]
                livenessProbe: {periodSeconds: -1, httpGett: {port: 80}}
        """)
    assert [(error.path, error.message.split()[0]) for error in raised.value.errors] == [
        ("spec.restartPolicy", "must"),
        ("spec.containers[0].imagee", "unknown"),
        ("spec.containers[0].livenessProbe.httpGett", "unknown"),
        ("metadata.name", "Invalid"),
        ("spec.containers[0].ports[0].containerPort", "Invalid"),
        ("spec.containers[0].livenessProbe.periodSeconds", "Invalid"),
    ], "an image is not also missing, nor is a handler of the probe"
    assert "(web.yaml:9)" in raised.value.errors[4].message
