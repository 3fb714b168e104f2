"""What an object must be to be stored: every rule of Kubernetes for the fields that we have, all errors at once.

The rules are for objects that have their defaults. `warnings` says which fields are stored but not acted upon yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, Final

from podwire import kinds
from podwire.errors import FieldError
from podwire.kinds import Kind
from podwire.validation import data, nodes, pods, services, workloads
from podwire.validation.metadata import validate_metadata, validate_metadata_update
from podwire.validation.problems import Problems
from podwire.validation.unsupported import warnings

__all__ = ["validate", "validate_update", "warnings"]


def validate(kind: Kind, message: Any, *, spec_is_stored: bool = False) -> list[FieldError]:
    """Everything that is wrong with a new object, or with the new state of one.

    A spec that is stored just so was found right when it was written: its rules are most of the work of an update, and
    most updates are of metadata.
    """
    rules = None if spec_is_stored else _RULES.get(kind.name)
    return list(chain(validate_metadata(kind, message.metadata), rules(message) if rules else ()))


def validate_update(kind: Kind, old: Any, new: Any) -> list[FieldError]:
    """What may not change from `old` to `new`; `new` is to be validated by itself as well."""
    rules = _UPDATE_RULES.get(kind.name)
    return list(chain(validate_metadata_update(old.metadata, new.metadata), rules(old, new) if rules else ()))


_RULES: Final[Mapping[str, Callable[[Any], Problems]]] = {
    kinds.POD.name: pods.validate_pod,
    kinds.SERVICE.name: services.validate_service,
    kinds.ENDPOINT_SLICE.name: services.validate_endpoint_slice,
    kinds.DEPLOYMENT.name: workloads.validate_deployment,
    kinds.REPLICA_SET.name: workloads.validate_replica_set,
    kinds.CONFIG_MAP.name: data.validate_config_map,
    kinds.SECRET.name: data.validate_secret,
    kinds.NODE.name: nodes.validate_node,
    kinds.EVENT.name: nodes.validate_event,
}

_UPDATE_RULES: Final[Mapping[str, Callable[[Any, Any], Problems]]] = {
    kinds.POD.name: pods.validate_pod_update,
    kinds.SERVICE.name: services.validate_service_update,
    kinds.ENDPOINT_SLICE.name: services.validate_endpoint_slice_update,
    kinds.DEPLOYMENT.name: workloads.validate_workload_update,
    kinds.REPLICA_SET.name: workloads.validate_workload_update,
    kinds.CONFIG_MAP.name: data.validate_config_map_update,
    kinds.SECRET.name: data.validate_secret_update,
    kinds.NODE.name: nodes.validate_node_update,
}
