"""How a service's endpoints lie in slices, and which slices must be written for that. Pure.

An endpoint stays in the slice where it is, so that one pod's change rewrites one slice and proxies hear of little.
Names are a hash of the service, the ports and a number: a controller that was killed before it saw its slice come makes
the same one again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from controlplane.controllers import names
from controlplane.controllers.endpoints import Endpoints, Group, Port
from controlplane.controllers.ownership import controller_uid, reference_to
from podwire import v1
from podwire.kinds import SERVICE

# Kubernetes' default (maxEndpointsPerSlice).
MAX_ENDPOINTS: Final = 100
SERVICE_LABEL: Final = "kubernetes.io/service-name"
MANAGED_BY_LABEL: Final = "endpointslice.kubernetes.io/managed-by"
MANAGER: Final = "endpointslice-controller.podwire.io"
# What Kubernetes puts on the slices of a service without cluster address; proxies leave those alone.
HEADLESS_LABEL: Final = "service.kubernetes.io/headless"
_SUFFIX: Final = 5


@dataclass(frozen=True, slots=True)
class Plan:
    create: Sequence[v1.EndpointSlice]
    update: Sequence[v1.EndpointSlice]
    delete: Sequence[v1.EndpointSlice]


@dataclass(slots=True)
class _Slot:
    """One slice in the making: the one it replaces, if any, and its endpoints by pod."""

    name: str
    existing: v1.EndpointSlice | None
    endpoints: dict[str, v1.Endpoint] = field(default_factory=dict)


def is_ours(replica: v1.EndpointSlice, service: v1.Service) -> bool:
    """Whether this controller made it for this service: others' slices, and those of a namesake, are left alone."""
    return controller_uid(replica) == service.metadata.uid and replica.metadata.labels.get(MANAGED_BY_LABEL) == MANAGER


def plan(service: v1.Service, endpoints: Endpoints, existing: Iterable[v1.EndpointSlice]) -> Plan:
    """`existing` are the service's slices that this controller made."""
    by_group: dict[Group, list[v1.EndpointSlice]] = {}
    for old in sorted(existing, key=lambda old: old.metadata.name):
        by_group.setdefault(_group(old), []).append(old)
    create: list[v1.EndpointSlice] = []
    update: list[v1.EndpointSlice] = []
    delete: list[v1.EndpointSlice] = []
    for group in sorted(endpoints):
        for slot in _arranged(service, group, endpoints[group], by_group.pop(group, [])):
            if slot.existing is None:
                create.append(_slice(service, group, slot))
            elif not slot.endpoints:
                delete.append(slot.existing)
            elif (wanted := _slice(service, group, slot)) != slot.existing:
                update.append(wanted)
    for left in by_group.values():
        delete.extend(left)
    return Plan(create, update, delete)


def _arranged(
    service: v1.Service, group: Group, wanted: Mapping[str, v1.Endpoint], existing: Sequence[v1.EndpointSlice]
) -> list[_Slot]:
    """Every endpoint where it is; new ones where there is room, then in new slices."""
    slots = [_Slot(old.metadata.name, old) for old in existing]
    missing = dict(wanted)
    for slot in slots:
        assert slot.existing is not None
        for endpoint in slot.existing.endpoints:
            uid = endpoint.target_ref.uid
            if uid in missing:
                slot.endpoints[uid] = missing.pop(uid)
    unused = _unused_names(service, group, {slot.name for slot in slots})
    for uid in sorted(missing, key=lambda uid: missing[uid].addresses[0]):
        # Slices that stay are filled first: an empty one can then go.
        room = [slot for slot in slots if 0 < len(slot.endpoints) < MAX_ENDPOINTS]
        room = room or [slot for slot in slots if not slot.endpoints]
        if not room:
            room = [_Slot(next(unused), None)]
            slots.extend(room)
        room[0].endpoints[uid] = missing[uid]
    return slots


def _unused_names(service: v1.Service, group: Group, used: set[str]) -> Iterator[str]:
    number = 0
    while True:
        parts = (service.metadata.uid, repr(group), str(number))
        suffix = names.hash_of(*(part.encode() for part in parts), length=_SUFFIX)
        number += 1
        name = names.join(service.metadata.name, suffix)
        if name not in used:
            used.add(name)
            yield name


def _slice(service: v1.Service, group: Group, slot: _Slot) -> v1.EndpointSlice:
    """What `slot` comes to: whatever else an existing slice has (annotations, strangers' labels) stays."""
    made = v1.EndpointSlice()
    if slot.existing is not None:
        made.CopyFrom(slot.existing)
    made.metadata.name = slot.name
    made.metadata.namespace = service.metadata.namespace
    made.metadata.labels[SERVICE_LABEL] = service.metadata.name
    made.metadata.labels[MANAGED_BY_LABEL] = MANAGER
    if service.spec.cluster_ip == "None":
        made.metadata.labels[HEADLESS_LABEL] = ""
    else:
        made.metadata.labels.pop(HEADLESS_LABEL, None)
    del made.metadata.owner_references[:]
    made.metadata.owner_references.append(reference_to(SERVICE, service))
    made.address_type = group.address_type
    del made.ports[:]
    made.ports.extend(port.message() for port in group.ports)
    del made.endpoints[:]
    made.endpoints.extend(slot.endpoints.values())
    return made


def _group(existing: v1.EndpointSlice) -> Group:
    ports = tuple(Port(port.name, port.protocol, port.port, port.app_protocol) for port in existing.ports)
    return Group(existing.address_type, ports)
