"""Bad input: every error at once, each with its place, and nothing changed."""

from __future__ import annotations

import pytest

from tests.e2e.cluster import Space

GOOD = """
apiVersion: v1
kind: ConfigMap
metadata:
  name: good
data: {a: b}
---
"""

POD = """
apiVersion: v1
kind: Pod
metadata:
  name: bad
spec:
  containers:
"""

BAD = {
    "unknown field": (
        POD + "  - {name: main, image: busybox, imagePullPolice: Always}",
        ["spec.containers[0].imagePullPolice", "imagePullPolicy"],
    ),
    "wrong type": (
        POD + "  - {name: main, image: busybox, stdin: [1]}\n  terminationGracePeriodSeconds: soon",
        ["spec.containers[0].stdin", "spec.terminationGracePeriodSeconds"],
    ),
    "missing image": (POD + "  - {name: main}", ["spec.containers[0].image"]),
    "bad port": (
        POD + "  - {name: main, image: busybox, ports: [{containerPort: 70000}]}",
        ["spec.containers[0].ports[0].containerPort", "65535"],
    ),
    "negative period": (
        POD + "  - {name: main, image: busybox, livenessProbe: {tcpSocket: {port: 80}, periodSeconds: -1}}",
        ["spec.containers[0].livenessProbe.periodSeconds"],
    ),
    "unknown kind": ("apiVersion: v1\nkind: Pood\nmetadata: {name: bad}\n", ["Pood", "Pod"]),
    "several at once": (
        POD + "  - {name: Main, ports: [{containerPort: 0}]}\n  restartPolicy: Sometimes",
        [
            "spec.containers[0].name",
            "spec.containers[0].image",
            "spec.containers[0].ports[0].containerPort",
            "spec.restartPolicy",
        ],
    ),
    "duplicate keys": (POD + "  - {name: main, image: busybox, image: nginx}", ["image", "line"]),
    "broken YAML": (POD + "  - {name: main, image: [", ["line"]),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_manifest_names_every_place_and_changes_nothing(space: Space, case: str) -> None:
    manifest, words = BAD[case]
    output = await space.podctl("apply", "-f", "-", stdin=GOOD + manifest, check=False)
    assert output.code == 1
    for word in words:
        assert word in output.stderr, output.stderr
    assert "Traceback" not in output.stderr
    assert await space.pods() == []
    assert (await space.client.config_maps.list(namespace=space.name)).items == []


async def test_a_config_map_of_two_mebibytes_is_refused_with_its_name_and_the_limit(space: Space) -> None:
    manifest = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: large}}\ndata: {{a: {'x' * (2 << 20)}}}\n"
    output = await space.podctl("apply", "-f", "-", stdin=manifest, check=False)
    assert output.code == 1
    assert 'ConfigMap "large"' in output.stderr and "1048576 bytes" in output.stderr, output.stderr[:500]
    assert (await space.client.config_maps.list(namespace=space.name)).items == []
