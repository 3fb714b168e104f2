"""What a pod asks of the node it runs on: resources and host ports. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from podwire import quantity, v1

# A container that requests nothing still loads a node: Kubernetes counts this much for the score (not for the fit), so
# that pods without requests spread (pkg/scheduler/util/pod_resources.go).
_DEFAULT_CPU_MILLI: Final = 100
_DEFAULT_MEMORY: Final = 200 * 1024 * 1024

_ANY_ADDRESS: Final = "0.0.0.0"


class HostPort(NamedTuple):
    address: str
    protocol: str
    port: int

    def conflicts_with(self, other: HostPort) -> bool:
        """Whether both cannot be bound on one node: the wildcard address takes the port on every address."""
        return (self.protocol, self.port) == (other.protocol, other.port) and (
            self.address == other.address or _ANY_ADDRESS in (self.address, other.address)
        )


class Resources(NamedTuple):
    """CPU in thousandths of a core, memory in bytes."""

    cpu_milli: int = 0
    memory: int = 0

    def plus(self, other: Resources) -> Resources:
        return Resources(self.cpu_milli + other.cpu_milli, self.memory + other.memory)

    def minus(self, other: Resources) -> Resources:
        return Resources(self.cpu_milli - other.cpu_milli, self.memory - other.memory)

    def at_least(self, other: Resources) -> Resources:
        """The larger of the two, each resource by itself."""
        return Resources(max(self.cpu_milli, other.cpu_milli), max(self.memory, other.memory))


NOTHING: Final = Resources()


@dataclass(frozen=True, slots=True)
class Demand:
    """`requests` decide whether the pod fits, `weight` (with defaults for what is not requested) how full a node is."""

    requests: Resources
    weight: Resources
    host_ports: frozenset[HostPort]


def demand_of(pod: v1.Pod) -> Demand:
    return Demand(
        requests=_total(pod.spec, NOTHING),
        weight=_total(pod.spec, Resources(_DEFAULT_CPU_MILLI, _DEFAULT_MEMORY)),
        host_ports=frozenset(_host_ports(pod.spec)),
    )


def resources(amounts: Mapping[str, v1.Quantity], absent: Resources) -> Resources:
    """cpu and memory of a map of quantities; `absent` for what it does not name."""
    return Resources(
        quantity.milli(amounts["cpu"]) if "cpu" in amounts else absent.cpu_milli,
        quantity.to_bytes(amounts["memory"]) if "memory" in amounts else absent.memory,
    )


def _total(spec: v1.PodSpec, absent: Resources) -> Resources:
    """The containers together, or the largest init container, whichever is more.

    Init containers run one after another, before the others; sidecars (init containers that always restart) run beside
    everything that starts after them (KEP-753).
    """
    running = NOTHING
    for container in spec.containers:
        running = running.plus(resources(container.resources.requests, absent))
    sidecars = NOTHING
    peak = NOTHING
    for container in spec.init_containers:
        needs = resources(container.resources.requests, absent)
        if container.restart_policy == "Always":
            sidecars = sidecars.plus(needs)
            peak = peak.at_least(sidecars)
        else:
            peak = peak.at_least(sidecars.plus(needs))
    return running.plus(sidecars).at_least(peak).plus(resources(spec.overhead, NOTHING))


def _host_ports(spec: v1.PodSpec) -> Iterable[HostPort]:
    for container in spec.containers:
        for port in container.ports:
            # With hostNetwork the container's own port is bound on the node.
            number = port.host_port or (port.container_port if spec.host_network else 0)
            if number:
                yield HostPort(port.host_ip or _ANY_ADDRESS, port.protocol or "TCP", number)
