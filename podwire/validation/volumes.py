"""Volumes of a pod: one source each, and that one complete."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from podwire import v1
from podwire.validation import names
from podwire.validation.containers import not_negative
from podwire.validation.problems import Problems, between, fields_of, forbidden, invalid, required, unique, unsupported

_HOST_PATH_TYPES: Final = (
    "", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice",
)  # fmt: skip
_MODE: Final = "must be a number between 0 and 0777 (octal), both inclusive"


def validate_volumes(path: str, volumes: Sequence[v1.Volume]) -> Problems:
    for i, volume in enumerate(volumes):
        inner = f"{path}[{i}]"
        yield from names.dns_label(f"{inner}.name", volume.name)
        sources = {name: source for name, source in fields_of(volume).items() if name != "name"}
        if not sources:
            yield required(inner, "must specify a volume type")
        for extra in list(sources)[1:]:
            yield forbidden(f"{inner}.{extra}", "may not specify more than 1 volume type")
        for name, source in list(sources.items())[:1]:
            yield from _source(f"{inner}.{name}", source)
    yield from unique(path, ((f"[{i}].name", volume.name) for i, volume in enumerate(volumes)))


def _source(path: str, source: Any) -> Problems:
    match source:
        case v1.HostPathVolumeSource():
            yield from _host_path(path, source)
        case v1.EmptyDirVolumeSource():
            if source.medium not in ("", "Memory") and not source.medium.startswith("HugePages"):
                yield unsupported(f"{path}.medium", source.medium, ("", "Memory"))
            if source.HasField("size_limit"):
                yield from not_negative(f"{path}.sizeLimit", source.size_limit)
        case v1.SecretVolumeSource():
            if not source.secret_name:
                yield required(f"{path}.secretName")
            yield from _files(path, source)
        case v1.ConfigMapVolumeSource():
            if not source.name:
                yield required(f"{path}.name")
            yield from _files(path, source)
        case v1.DownwardAPIVolumeSource():
            yield from _mode(f"{path}.defaultMode", source.default_mode)
            yield from _downward_items(f"{path}.items", source.items)
        case v1.ProjectedVolumeSource():
            yield from _mode(f"{path}.defaultMode", source.default_mode)
            for i, projection in enumerate(source.sources):
                yield from _projection(f"{path}.sources[{i}]", projection)
        case v1.PersistentVolumeClaimVolumeSource():
            if not source.claim_name:
                yield required(f"{path}.claimName")


def _host_path(path: str, source: v1.HostPathVolumeSource) -> Problems:
    if not source.path:
        yield required(f"{path}.path")
    yield from names.no_way_up(f"{path}.path", source.path)
    if source.type not in _HOST_PATH_TYPES:
        yield unsupported(f"{path}.type", source.type, _HOST_PATH_TYPES)


def _files(path: str, source: v1.SecretVolumeSource | v1.ConfigMapVolumeSource) -> Problems:
    yield from _mode(f"{path}.defaultMode", source.default_mode)
    yield from _items(f"{path}.items", source.items)


def _items(path: str, items: Iterable[v1.KeyToPath]) -> Problems:
    for i, item in enumerate(items):
        if not item.key:
            yield required(f"{path}[{i}].key")
        yield from _file(f"{path}[{i}]", item)


def _downward_items(path: str, items: Iterable[v1.DownwardAPIVolumeFile]) -> Problems:
    for i, item in enumerate(items):
        yield from _file(f"{path}[{i}]", item)
        if len(fields_of(item, "fieldRef", "resourceFieldRef")) != 1:
            yield invalid(f"{path}[{i}]", "", "must specify exactly one of: `fieldRef` or `resourceFieldRef`")


def _file(path: str, item: v1.KeyToPath | v1.DownwardAPIVolumeFile) -> Problems:
    if not item.path:
        yield required(f"{path}.path")
    yield from names.relative_path(f"{path}.path", item.path)
    yield from _mode(f"{path}.mode", item.mode)


def _projection(path: str, projection: v1.VolumeProjection) -> Problems:
    sources = fields_of(projection)
    if len(sources) != 1:
        yield invalid(path, "", "must specify exactly one volume type for a projection")
    for name, source in sources.items():
        inner = f"{path}.{name}"
        match source:
            case v1.SecretProjection() | v1.ConfigMapProjection():
                if not source.name:
                    yield required(f"{inner}.name")
                yield from _items(f"{inner}.items", source.items)
            case v1.DownwardAPIProjection():
                yield from _downward_items(f"{inner}.items", source.items)
            case v1.ServiceAccountTokenProjection():
                if not source.path:
                    yield required(f"{inner}.path")
                yield from names.relative_path(f"{inner}.path", source.path)


def _mode(path: str, mode: int) -> Problems:
    if any(between(path, mode, 0, 0o777)):
        yield invalid(path, mode, _MODE)
