"""Sets of fields: what trees set, what changes between them, and how they are written and told."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct

from controlplane.services.field_ownership import descriptor_of
from controlplane.services.field_sets import (
    FieldSet,
    changes,
    describe,
    fields_in,
    from_fields_v1,
    to_fields_v1,
    with_parents,
)
from podwire import kinds

POD = descriptor_of(kinds.POD)
Tree = dict[str, Any]


def pod(*containers: Tree, **spec: Any) -> Tree:
    return {"spec": {"containers": list(containers), **spec}}


def told(fields: FieldSet) -> set[str]:
    return {describe(POD, path) for path in fields}


WEB = {"name": "web", "image": "nginx"}


def test_the_fields_of_a_manifest_are_written_as_kubernetes_writes_them() -> None:
    tree = pod({**WEB, "ports": [{"containerPort": 80}]}) | {
        "metadata": {"labels": {"a": "b"}, "finalizers": ["x.io/y"]}
    }
    assert to_fields_v1(fields_in(POD, tree)) == {
        "f:metadata": {"f:labels": {"f:a": {}}, "f:finalizers": {'v:"x.io/y"': {}}},
        "f:spec": {
            "f:containers": {
                'k:{"name":"web"}': {
                    ".": {},
                    "f:name": {},
                    "f:image": {},
                    "f:ports": {'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}},
                }
            }
        },
    }


def test_what_is_atomic_or_empty_is_one_field() -> None:
    tree = pod(nodeSelector={"a": "b"}, imagePullSecrets=[{"name": "x"}], volumes=[{"name": "v", "emptyDir": {}}])
    assert told(fields_in(POD, tree)) == {
        "spec.containers",
        "spec.nodeSelector",
        "spec.imagePullSecrets[name=x]",
        "spec.volumes[name=v]",
        "spec.volumes[name=v].name",
        "spec.volumes[name=v].emptyDir",
    }


def test_a_set_that_is_written_is_read_as_it_was() -> None:
    tree = pod({**WEB, "env": [{"name": "A", "value": "1"}]}, nodeSelector={"a": "b"})
    fields = fields_in(POD, tree | {"metadata": {"labels": {".": "x", "a.b/c": "y"}, "finalizers": ["f"]}})
    written = Struct()
    written.update(to_fields_v1(fields))
    assert from_fields_v1(written) == fields


def test_fields_are_told_by_the_keys_of_items_and_maps() -> None:
    tree = pod({**WEB, "ports": [{"containerPort": 80}], "resources": {"limits": {"cpu": "1"}}})
    assert told(fields_in(POD, tree | {"metadata": {"labels": {"a.b/c": "d"}, "finalizers": ["f"]}})) == {
        "metadata.labels[a.b/c]",
        "metadata.finalizers[f]",
        "spec.containers[name=web]",
        "spec.containers[name=web].name",
        "spec.containers[name=web].image",
        "spec.containers[name=web].ports[containerPort=80,protocol=TCP]",
        "spec.containers[name=web].ports[containerPort=80,protocol=TCP].containerPort",
        "spec.containers[name=web].resources.limits[cpu]",
    }


@pytest.mark.parametrize("path", [("f:unknown", "f:x"), ("f:spec", "f:containers", "k:no json", "f:image"), ("x",)])
def test_a_field_that_the_schema_does_not_know_is_told_too(path: tuple[str, ...]) -> None:
    assert describe(POD, path)


CHANGES: list[tuple[str, Tree, Tree, set[str], set[str]]] = [
    ("nothing", pod(WEB), pod(WEB), set(), set()),
    ("a value", pod(WEB), pod({**WEB, "image": "x"}), {"spec.containers[name=web].image"}, set()),
    ("a field that comes", pod(WEB), pod({**WEB, "tty": True}), {"spec.containers[name=web].tty"}, set()),
    ("a field that goes", pod({**WEB, "tty": True}), pod(WEB), set(), {"spec.containers[name=web].tty"}),
    (
        "an item for another",
        pod({"name": "a"}, WEB),
        pod(WEB, {"name": "b"}),
        {"spec.containers[name=b]", "spec.containers[name=b].name"},
        {"spec.containers[name=a]", "spec.containers[name=a].name"},
    ),
    ("the order of items", pod(WEB, {"name": "a"}), pod({"name": "a"}, WEB), set(), set()),
    (
        "a map",
        {"metadata": {"labels": {"a": "1", "b": "2", "c": "3"}}},
        {"metadata": {"labels": {"a": "1", "b": "9", "d": "4"}}},
        {"metadata.labels[b]", "metadata.labels[d]"},
        {"metadata.labels[c]"},
    ),
    (
        "a set",
        {"metadata": {"finalizers": ["a", "b"]}},
        {"metadata": {"finalizers": ["b", "c"]}},
        {"metadata.finalizers[c]"},
        {"metadata.finalizers[a]"},
    ),
    ("what is atomic", pod(nodeSelector={"a": "b"}), pod(nodeSelector={"a": "c"}), {"spec.nodeSelector"}, set()),
    (
        "what was empty",
        pod(volumes=[{"name": "v", "emptyDir": {}}]),
        pod(volumes=[{"name": "v", "emptyDir": {"medium": "Memory"}}]),
        {"spec.volumes[name=v].emptyDir.medium"},
        set(),
    ),
]


@pytest.mark.parametrize(("old", "new", "changed", "removed"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES])
def test_changes_name_what_gets_a_value_and_what_goes(
    old: Tree, new: Tree, changed: set[str], removed: set[str]
) -> None:
    found = changes(POD, old, new)
    assert (told(found.changed), told(found.removed)) == (changed, removed)


def test_what_comes_and_what_goes_are_each_others_reverse() -> None:
    old, new = pod(WEB, {"name": "a", "tty": True}), pod({**WEB, "args": ["x"]})
    forth, back = changes(POD, old, new), changes(POD, new, old)
    assert (forth.changed, forth.removed) == (back.removed, back.changed)


def test_parents_are_all_that_lead_to_a_field() -> None:
    assert with_parents(frozenset({("f:a", "f:b", "f:c")})) == {("f:a",), ("f:a", "f:b"), ("f:a", "f:b", "f:c")}
