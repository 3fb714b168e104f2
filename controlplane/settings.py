"""What the command line of `podwire-controlplane` comes to: one value a role, checked once, immutable afterwards."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from podwire.client import Tls

# Kubernetes' own default.
SERVICE_CIDR: Final = ipaddress.IPv4Network("10.96.0.0/12")
# What kubeadm's examples and flannel use; each node gets a /24 of it.
POD_CIDR: Final = ipaddress.IPv4Network("10.244.0.0/16")


@dataclass(frozen=True, slots=True)
class EtcdSettings:
    """Where the state is: `endpoints` as in `http://10.0.0.1:2379`; with `tls` they are https."""

    endpoints: tuple[str, ...]
    tls: Tls | None = None


@dataclass(frozen=True, slots=True)
class NodePortRange:
    """Ports that services of type NodePort get; both ends belong to it. Kubernetes' default is 30000-32767."""

    first: int = 30000
    last: int = 32767

    @classmethod
    def parse(cls, text: str) -> NodePortRange:
        """Reads `30000-32767`; raises ValueError with what is wrong."""
        first, separator, last = text.partition("-")
        if not (separator and first.isdigit() and last.isdigit() and 0 < int(first) <= int(last) < 65536):
            raise ValueError(f"{text!r} is no range of ports: write it as 30000-32767")
        return cls(int(first), int(last))


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """The role `api`."""

    etcd: EtcdSettings
    # The local administrator's way in: a unix socket with mode 0600, which needs no certificate.
    socket: Path
    # HOST:PORT to serve mutual TLS on; None: the socket alone.
    listen: str | None = None
    # HOST:PORT where the other replicas reach this one; it stands in the node sessions that it holds.
    advertise: str | None = None
    # The CA whose certificates clients must show, and what this server shows them.
    tls: Tls | None = None
    service_cidr: ipaddress.IPv4Network = SERVICE_CIDR
    pod_cidr: ipaddress.IPv4Network = POD_CIDR
    node_ports: NodePortRange = NodePortRange()
    # HOST:PORT to serve Prometheus' metrics on, without TLS; None: not at all.
    metrics: str | None = None


@dataclass(frozen=True, slots=True)
class ElectedSettings:
    """The roles that act only while they hold an election: scheduler and controllers."""

    etcd: EtcdSettings
    # Endpoints of the API, as podwire.client takes them.
    api: tuple[str, ...]
    tls: Tls | None
    # Holds the lock that says that no other process of this role runs here, and the name of this candidate.
    run_dir: Path
