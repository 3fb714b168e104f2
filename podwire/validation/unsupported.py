"""Fields that are stored and not acted upon yet: whoever applies them gets a warning. Later work shortens the table.

A pod with volumes or variables that the agent cannot provide is not started: its containers wait with
CreateContainerConfigError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import Message

from podwire import kinds, tree_codec
from podwire.kinds import Kind

_IGNORED: Final = "is stored, but has no effect yet"
_NOT_STARTED: Final = "cannot be provided yet: containers that need it will not start (CreateContainerConfigError)"


def _present(value: Any) -> bool:
    """Set to something: neither false nor empty."""
    return bool(value)


@dataclass(frozen=True, slots=True)
class _Unsupported:
    """`path` as in a manifest, `[]` for every item of a list; `applies` says of which values."""

    path: str
    says: str = _IGNORED
    applies: Callable[[Any], bool] = _present


def _not(*usual: str) -> Callable[[Any], bool]:
    return lambda value: value not in usual


_CONTAINER: Final = (
    _Unsupported("startupProbe"),
    _Unsupported("lifecycle.postStart"),
    _Unsupported("lifecycle.preStop"),
    _Unsupported("resources.limits"),
    _Unsupported("resources.claims"),
    _Unsupported("envFrom", _NOT_STARTED),
    _Unsupported("env[].valueFrom", _NOT_STARTED),
    _Unsupported("restartPolicy"),
    _Unsupported("volumeDevices"),
    _Unsupported("resizePolicy"),
    _Unsupported("volumeMounts[].subPathExpr", _NOT_STARTED),
    _Unsupported("volumeMounts[].recursiveReadOnly"),
    _Unsupported("terminationMessagePath", applies=_not("/dev/termination-log")),
    _Unsupported("terminationMessagePolicy", applies=_not("File")),
)

_POD_SPEC: Final = (
    _Unsupported("volumes[].secret", _NOT_STARTED),
    _Unsupported("volumes[].configMap", _NOT_STARTED),
    _Unsupported("volumes[].downwardAPI", _NOT_STARTED),
    _Unsupported("volumes[].projected", _NOT_STARTED),
    _Unsupported("volumes[].persistentVolumeClaim", _NOT_STARTED),
    _Unsupported("activeDeadlineSeconds"),
    _Unsupported("serviceAccountName"),
    _Unsupported("serviceAccount"),
    _Unsupported("automountServiceAccountToken"),
    _Unsupported("imagePullSecrets"),
    _Unsupported("setHostnameAsFQDN"),
    _Unsupported("affinity"),
    _Unsupported("tolerations[].tolerationSeconds"),
    _Unsupported("topologySpreadConstraints"),
    _Unsupported("schedulingGates"),
    _Unsupported("priorityClassName"),
    _Unsupported("priority"),
    _Unsupported("preemptionPolicy"),
    _Unsupported("runtimeClassName"),
    _Unsupported("resources"),
    *(
        _Unsupported(f"{field}[].{row.path}", row.says, row.applies)
        for field in ("initContainers", "containers")
        for row in _CONTAINER
    ),
)

_METADATA: Final = (_Unsupported("metadata.finalizers"),)

_TEMPLATE: Final = tuple(_Unsupported(f"spec.template.spec.{row.path}", row.says, row.applies) for row in _POD_SPEC)

_TABLE: Final[Mapping[str, tuple[_Unsupported, ...]]] = {
    kinds.POD.name: tuple(_Unsupported(f"spec.{row.path}", row.says, row.applies) for row in _POD_SPEC),
    kinds.DEPLOYMENT.name: _TEMPLATE,
    kinds.REPLICA_SET.name: _TEMPLATE,
    kinds.SERVICE.name: (
        _Unsupported("spec.externalIPs"),
        _Unsupported("spec.type", "gets a cluster address and node ports, but no load balancer", "LoadBalancer".__eq__),
        _Unsupported("spec.type", "is stored, but there is no DNS to answer it yet", "ExternalName".__eq__),
        _Unsupported("spec.loadBalancerIP"),
        _Unsupported("spec.loadBalancerSourceRanges"),
        _Unsupported("spec.ipFamilyPolicy", applies=_not("SingleStack")),
        _Unsupported("spec.healthCheckNodePort"),
        _Unsupported("spec.trafficDistribution"),
    ),
}


def warnings(kind: Kind, message: Message) -> list[str]:
    """One sentence for every field of `message` that does not do yet what it says."""
    tree = tree_codec.to_tree(message)
    return [
        f"{path}: {row.says}"
        for row in (*_METADATA, *_TABLE.get(kind.name, ()))
        for path, value in _values(tree, row.path.split("."))
        if row.applies(value)
    ]


def _values(tree: Any, steps: list[str], path: str = "") -> Iterator[tuple[str, Any]]:
    """What is at the end of `steps` in `tree`, with the path of each."""
    if not steps:
        yield path.removeprefix("."), tree
        return
    name = steps[0].removesuffix("[]")
    if not isinstance(tree, dict) or name not in tree:
        return
    if name == steps[0]:
        yield from _values(tree[name], steps[1:], f"{path}.{name}")
        return
    for i, item in enumerate(tree[name]):
        yield from _values(item, steps[1:], f"{path}.{name}[{i}]")
