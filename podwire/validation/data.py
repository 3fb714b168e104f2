"""Config maps and secrets: keys, sizes, types, and what immutable means."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from podwire import v1
from podwire.validation import names
from podwire.validation.problems import Problems, duplicate, forbidden, invalid, required, too_long

# Kubernetes' limit, well below what etcd takes in a request.
_LARGEST: Final = 1024 * 1024

# The keys that a secret of a type must have.
_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}
_JSON_KEYS: Final = (".dockerconfigjson", ".dockercfg")


def validate_config_map(config_map: v1.ConfigMap) -> Problems:
    for key in sorted(config_map.data):
        yield from names.data_key(f"data[{key}]", key)
    for key in sorted(config_map.binary_data):
        yield from names.data_key(f"binaryData[{key}]", key)
        if key in config_map.data:
            yield duplicate(f"binaryData[{key}]", key)
    texts = sum(len(text.encode()) for text in config_map.data.values())
    yield from _size(texts + sum(len(data) for data in config_map.binary_data.values()))


def validate_secret(secret: v1.Secret) -> Problems:
    for key in sorted(secret.data):
        yield from names.data_key(f"data[{key}]", key)
    yield from _size(sum(len(data) for data in secret.data.values()))
    for key in _KEYS.get(secret.type, ()):
        if key not in secret.data:
            yield required(f"data[{key}]", f"a secret of type {secret.type} has it")
        elif key in _JSON_KEYS and not _is_json(secret.data[key]):
            yield invalid(f"data[{key}]", "<secret contents redacted>", "must be valid JSON")
    if secret.type == "kubernetes.io/basic-auth" and not {"username", "password"} & secret.data.keys():
        yield required("data[username]", f"a secret of type {secret.type} has username or password")


def validate_config_map_update(old: v1.ConfigMap, new: v1.ConfigMap) -> Problems:
    yield from _immutable(old.immutable, new.immutable, {
        "data": old.data != new.data, "binaryData": old.binary_data != new.binary_data,
    })  # fmt: skip


def validate_secret_update(old: v1.Secret, new: v1.Secret) -> Problems:
    if old.type != new.type:
        yield invalid("type", new.type, "field is immutable")
    yield from _immutable(old.immutable, new.immutable, {"data": old.data != new.data})


def _immutable(was: bool, is_now: bool, changed: Mapping[str, bool]) -> Problems:
    if not was:
        return
    if not is_now:
        yield forbidden("immutable", "field is immutable when `immutable` is set")
    for field, differs in changed.items():
        if differs:
            yield forbidden(field, "field is immutable when `immutable` is set")


def _size(size: int) -> Problems:
    if size > _LARGEST:
        yield too_long("data", f"may not be more than {_LARGEST} bytes in all, and is {size}")


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True
