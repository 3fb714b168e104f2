"""How the fields of objects are merged: which lists have items with keys, which fields are replaced as a whole.

As Kubernetes declares it beside its types (patchMergeKey, listType, mapType). What is not named here follows the rule
of its shape: messages and maps are merged field by field and key by key, lists are replaced.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum, auto
from functools import cache
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor


class Shape(Enum):
    SCALAR = auto()
    MESSAGE = auto()
    MAP = auto()
    # A list whose items are known by some of their fields.
    KEYED = auto()
    # A list of scalars in which each stands once.
    SET = auto()


# (message, field) -> the fields that an item is known by, in the names of manifests.
_KEYS: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("PodSpec", "containers"): ("name",),
    ("PodSpec", "initContainers"): ("name",),
    ("PodSpec", "volumes"): ("name",),
    ("PodSpec", "imagePullSecrets"): ("name",),
    ("PodSpec", "hostAliases"): ("ip",),
    ("PodSpec", "schedulingGates"): ("name",),
    ("PodSpec", "topologySpreadConstraints"): ("topologyKey", "whenUnsatisfiable"),
    ("Container", "ports"): ("containerPort", "protocol"),
    ("Container", "env"): ("name",),
    ("Container", "volumeMounts"): ("mountPath",),
    ("Container", "volumeDevices"): ("devicePath",),
    ("ResourceRequirements", "claims"): ("name",),
    ("ServiceSpec", "ports"): ("port", "protocol"),
    ("ObjectMeta", "ownerReferences"): ("uid",),
}
_KEY_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), sort_keys=True)
# Keys that an item may leave out, and what it then means.
_KEY_DEFAULTS: Final[Mapping[str, str]] = {"protocol": "TCP"}
_SETS: Final = frozenset({("ObjectMeta", "finalizers"), ("NodeSpec", "podCIDRs")})
# Fields and messages that have one meaning as a whole.
_ATOMIC_FIELDS: Final = frozenset({("PodSpec", "nodeSelector"), ("ServiceSpec", "selector")})
_ATOMIC_MESSAGES: Final = frozenset(
    {
        "ConfigMapKeySelector",
        "LabelSelector",
        "LocalObjectReference",
        "NodeSelector",
        "NodeSelectorTerm",
        "ObjectFieldSelector",
        "ObjectReference",
        "OwnerReference",
        "ResourceFieldSelector",
        "SecretKeySelector",
    }
)
# Messages that manifests write as a scalar, or that have no fields of their own.
_SCALAR_MESSAGES: Final = frozenset({"Quantity", "IntOrString", "Timestamp", "Struct"})
# Unions: what the new state does not name belongs to another choice, and goes.
_RETAIN_KEYS: Final = frozenset({"DeploymentStrategy", "Volume"})


@cache
def fields_of(descriptor: Descriptor) -> Mapping[str, FieldDescriptor]:
    """The fields of a message by their names in manifests."""
    return {field.json_name: field for field in descriptor.fields}


@cache
def shape_of(field: FieldDescriptor) -> Shape:
    where = _place(field)
    if where in _KEYS:
        return Shape.KEYED
    if where in _SETS:
        return Shape.SET
    message = field.message_type
    if where in _ATOMIC_FIELDS or message is None:
        return Shape.SCALAR
    if message.GetOptions().map_entry:
        return Shape.MAP
    if field.is_repeated or message.name in _ATOMIC_MESSAGES or message.name in _SCALAR_MESSAGES:
        return Shape.SCALAR
    return Shape.MESSAGE


def has_atomic_items(field: FieldDescriptor) -> bool:
    """Whether the items of a keyed list have one meaning as a whole."""
    return message_type(field).name in _ATOMIC_MESSAGES


def replaces(descriptor: Descriptor) -> bool:
    """Whether a new state of this message drops the fields that it does not name."""
    return descriptor.name in _RETAIN_KEYS


def item_key(field: FieldDescriptor, item: Mapping[str, Any]) -> str:
    """What an item of a keyed list is known by, as FieldsV1 writes it: `k:{"name":"web"}`."""
    names = _KEYS[_place(field)]
    values = {name: item.get(name, _KEY_DEFAULTS.get(name)) for name in names}
    return "k:" + _KEY_ENCODER.encode(values)


def message_type(field: FieldDescriptor) -> Descriptor:
    """The message that a field of one of the message shapes holds."""
    assert field.message_type is not None
    return field.message_type


def _place(field: FieldDescriptor) -> tuple[str, str]:
    assert field.containing_type is not None
    return field.containing_type.name, field.json_name
