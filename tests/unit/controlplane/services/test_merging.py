"""Merges of manifests, as tables of trees."""

from __future__ import annotations

from typing import Any, cast

import pytest
from google.protobuf.descriptor import Descriptor

from controlplane.services.field_sets import NOTHING, fields_in
from controlplane.services.merging import merge, remove_gone
from podwire import kinds
from podwire.kinds import Kind

Tree = dict[str, Any]


def descriptor(kind: Kind) -> Descriptor:
    return cast(Descriptor, kind.message.DESCRIPTOR)


def applied_over(kind: Kind, live: Tree, before: Tree, now: Tree, others: list[Tree] | None = None) -> Tree:
    """`live` after its manager, who applied `before`, applies `now`."""
    d = descriptor(kind)
    merged = merge(d, live, now)
    wanted = NOTHING.union(*(fields_in(d, tree) for tree in [now, *(others or [])]))
    return remove_gone(d, merged, fields_in(d, before), wanted)


def pod(*containers: Tree, **spec: Any) -> Tree:
    return {"spec": {"containers": list(containers), **spec}}


WEB = {"name": "web", "image": "nginx"}

CASES: list[tuple[str, Kind, Tree, Tree, Tree, Tree]] = [
    (
        "a default that nobody set stays",
        kinds.POD,
        pod({**WEB, "imagePullPolicy": "Always"}),
        pod(WEB),
        pod({**WEB, "image": "httpd"}),
        pod({"name": "web", "image": "httpd", "imagePullPolicy": "Always"}),
    ),
    (
        "a field that is no longer set goes",
        kinds.POD,
        pod({**WEB, "command": ["a"]}),
        pod({**WEB, "command": ["a"]}),
        pod(WEB),
        pod(WEB),
    ),
    (
        "a probe that is no longer set goes with its defaults",
        kinds.POD,
        pod({**WEB, "livenessProbe": {"exec": {"command": ["a"]}, "periodSeconds": 10}}),
        pod({**WEB, "livenessProbe": {"exec": {"command": ["a"]}}}),
        pod(WEB),
        pod(WEB),
    ),
    (
        "a probe may change its kind",
        kinds.POD,
        pod({**WEB, "livenessProbe": {"exec": {"command": ["a"]}, "periodSeconds": 10}}),
        pod({**WEB, "livenessProbe": {"exec": {"command": ["a"]}}}),
        pod({**WEB, "livenessProbe": {"tcpSocket": {"port": 80}}}),
        pod({**WEB, "livenessProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 10}}),
    ),
    (
        "a container that somebody else added stays where it is",
        kinds.POD,
        pod({"name": "first", "image": "proxy"}, WEB, {"name": "injected", "image": "proxy"}),
        pod(WEB),
        pod(WEB, {"name": "new", "image": "busybox"}),
        pod(
            {"name": "first", "image": "proxy"},
            WEB,
            {"name": "injected", "image": "proxy"},
            {"name": "new", "image": "busybox"},
        ),
    ),
    (
        "containers that are applied come in the order of the manifest",
        kinds.POD,
        pod({"name": "injected", "image": "proxy"}, {"name": "b"}, {"name": "other"}, {"name": "a"}),
        pod({"name": "b"}, {"name": "a"}),
        pod({"name": "a"}, {"name": "b"}),
        pod({"name": "injected", "image": "proxy"}, {"name": "a"}, {"name": "b"}, {"name": "other"}),
    ),
    (
        "a reference that is written as a whole is replaced as a whole",
        kinds.POD,
        pod(
            {**WEB, "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}}]}
        ),
        pod({**WEB, "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}),
        pod({**WEB, "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "other"}}}]}),
        pod({**WEB, "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "other"}}}]}),
    ),
    (
        "a container that is no longer applied goes",
        kinds.POD,
        pod(WEB, {"name": "old", "image": "busybox"}),
        pod(WEB, {"name": "old", "image": "busybox"}),
        pod(WEB),
        pod(WEB),
    ),
    (
        "environment variables are merged by name",
        kinds.POD,
        pod({**WEB, "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}, {"name": "X", "value": "9"}]}),
        pod({**WEB, "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}),
        pod({**WEB, "env": [{"name": "A", "value": "3"}]}),
        pod({**WEB, "env": [{"name": "A", "value": "3"}, {"name": "X", "value": "9"}]}),
    ),
    (
        "ports are merged by number and protocol, which is TCP where it is left out",
        kinds.SERVICE,
        {"spec": {"ports": [{"port": 80, "protocol": "TCP", "nodePort": 30001, "targetPort": 80}]}},
        {"spec": {"ports": [{"port": 80}]}},
        {"spec": {"ports": [{"port": 80, "name": "http"}]}},
        {"spec": {"ports": [{"port": 80, "protocol": "TCP", "nodePort": 30001, "targetPort": 80, "name": "http"}]}},
    ),
    (
        "lists without keys are replaced",
        kinds.POD,
        pod({**WEB, "args": ["a", "b"]}, tolerations=[{"key": "x"}]),
        pod({**WEB, "args": ["a", "b"]}),
        pod({**WEB, "args": ["c"]}, tolerations=[{"key": "y"}]),
        pod({**WEB, "args": ["c"]}, tolerations=[{"key": "y"}]),
    ),
    (
        "labels are merged key by key",
        kinds.POD,
        {"metadata": {"labels": {"mine": "1", "theirs": "2", "gone": "3"}}},
        {"metadata": {"labels": {"mine": "1", "gone": "3"}}},
        {"metadata": {"labels": {"mine": "2"}}},
        {"metadata": {"labels": {"mine": "2", "theirs": "2"}}},
    ),
    (
        "selectors are replaced as a whole",
        kinds.SERVICE,
        {"spec": {"selector": {"app": "a", "tier": "b"}}},
        {},
        {"spec": {"selector": {"app": "c"}}},
        {"spec": {"selector": {"app": "c"}}},
    ),
    (
        "a volume changes its kind",
        kinds.POD,
        pod(WEB, volumes=[{"name": "v", "emptyDir": {}}]),
        pod(WEB, volumes=[{"name": "v", "emptyDir": {}}]),
        pod(WEB, volumes=[{"name": "v", "hostPath": {"path": "/a"}}]),
        pod(WEB, volumes=[{"name": "v", "hostPath": {"path": "/a"}}]),
    ),
    (
        "a strategy drops what belongs to another one, also where it was a default",
        kinds.DEPLOYMENT,
        {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}}}},
        {"spec": {}},
        {"spec": {"strategy": {"type": "Recreate"}}},
        {"spec": {"strategy": {"type": "Recreate"}}},
    ),
    (
        "zero is a value",
        kinds.DEPLOYMENT,
        {"spec": {"replicas": 3}},
        {"spec": {"replicas": 3}},
        {"spec": {"replicas": 0}},
        {"spec": {"replicas": 0}},
    ),
    (
        "replicas that are left out are whoever's scaled them",
        kinds.DEPLOYMENT,
        {"spec": {"replicas": 7, "paused": True}},
        {"spec": {"paused": True}},
        {"spec": {"paused": False}},
        {"spec": {"replicas": 7, "paused": False}},
    ),
    (
        "finalizers are a set",
        kinds.POD,
        {"metadata": {"finalizers": ["a", "b", "c"]}},
        {"metadata": {"finalizers": ["a", "b"]}},
        {"metadata": {"finalizers": ["b", "d"]}},
        {"metadata": {"finalizers": ["b", "c", "d"]}},
    ),
    (
        "owners are known by their uid and replaced as a whole",
        kinds.POD,
        {"metadata": {"ownerReferences": [{"uid": "1", "name": "a", "controller": True}, {"uid": "2", "name": "b"}]}},
        {"metadata": {"ownerReferences": [{"uid": "1", "name": "a", "controller": True}]}},
        {"metadata": {"ownerReferences": [{"uid": "1", "name": "c"}]}},
        {"metadata": {"ownerReferences": [{"uid": "1", "name": "c"}, {"uid": "2", "name": "b"}]}},
    ),
    (
        "data of a config map",
        kinds.CONFIG_MAP,
        {"data": {"a": "1", "b": "2"}},
        {"data": {"a": "1", "b": "2"}},
        {"data": {"b": "3", "c": "4"}},
        {"data": {"b": "3", "c": "4"}},
    ),
]


@pytest.mark.parametrize(
    ("kind", "live", "before", "now", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_an_apply_over_what_is_there(kind: Kind, live: Tree, before: Tree, now: Tree, expected: Tree) -> None:
    assert applied_over(kind, live, before, now) == expected


@pytest.mark.parametrize(
    ("kind", "live", "before", "now", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_a_second_equal_apply_changes_nothing(kind: Kind, live: Tree, before: Tree, now: Tree, expected: Tree) -> None:
    assert applied_over(kind, expected, now, now) == expected


def test_what_another_manager_applies_stays_when_this_one_leaves_it() -> None:
    live = pod({**WEB, "command": ["a"], "args": ["b"]}, nodeSelector={"a": "b"})
    ours = pod({**WEB, "command": ["a"], "args": ["b"]}, nodeSelector={"a": "b"})
    theirs = pod({"name": "web", "args": ["b"]}, nodeSelector={"a": "b"})
    assert applied_over(kinds.POD, live, ours, pod(WEB), [theirs]) == pod(
        {**WEB, "args": ["b"]}, nodeSelector={"a": "b"}
    )


def test_items_that_cannot_be_told_apart_are_left_to_validation() -> None:
    twice = pod(WEB, {**WEB, "image": "httpd"})
    assert applied_over(kinds.POD, pod(WEB), pod(WEB), twice) == twice
