"""What the command line of `podwire-controlplane` comes to: one value a role, checked once, immutable afterwards."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from podwire.client import Tls

# Kubernetes' own default.
SERVICE_CIDR: Final = ipaddress.IPv4Network("10.96.0.0/12")
# What kubeadm's examples and flannel use; each node gets a /24 of it.
POD_CIDR: Final = ipaddress.IPv4Network("10.244.0.0/16")
# Seconds of etcd's history that are kept: Kubernetes' --etcd-compaction-interval. A watcher that was away for as long
# resumes where it was, and the pages of a list can be asked for as long.
HISTORY_SECONDS: Final = 300.0
# Less would end lists between two of their pages, and make everybody list again after a restart.
_HISTORY_SHORTEST: Final = 30.0
_HISTORY: Final = re.compile(r"(\d+)(s|m|h)")
_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}


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


def parse_history(text: str) -> float:
    """Seconds of `5m`, `300s` or `1h`; raises ValueError with what is wrong."""
    found = _HISTORY.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no time: write it with its unit, as in 5m, 300s or 1h")
    seconds = float(int(found[1]) * _UNIT_SECONDS[found[2]])
    if seconds < _HISTORY_SHORTEST:
        raise ValueError(f"{text} of history are too few for lists and watches to go on: at least 30s")
    return seconds


@dataclass(frozen=True, slots=True)
class UpkeepSettings:
    """What the leader of the role `controllers` does for etcd."""

    # Seconds of etcd's history that are kept.
    history: float = HISTORY_SECONDS
    # HOST:PORT to serve its metrics on, without TLS; None: not at all.
    metrics: str | None = None


@dataclass(frozen=True, slots=True)
class Room:
    """How much of something may be under way at once, in a unit that the user of it chooses."""

    total: int
    # Of the total, what ordinary users never take: it is the system's (agents, scheduler, controllers).
    system: int
    # What one user may have.
    user: int
    # How many of each user may wait for room, and for how many seconds.
    queue: int = 0
    wait: float = 0.0

    def resized(self, total: int, user: int) -> Room:
        """Another size of the same, a third of it the system's."""
        return replace(self, total=total, system=total // 3, user=min(user, total))


@dataclass(frozen=True, slots=True)
class LoadLimits:
    """What a replica takes on before it refuses with OVERLOADED."""

    # Requests. Kubernetes' apiserver has 400 reads and 200 writes in flight; here one third of 600 is kept for the
    # system, and one user has at most what 64 clients with a request each need three times over. A server of 2 cores
    # answers some 5,000 requests a second, so that what finds a full queue of 100 would have waited a second or so; 5 s
    # are as long as clients try by default.
    requests: Room = Room(600, 200, 200, queue=100, wait=5.0)
    # Watches, sessions, logs and execs. 5,000 for one user are 500 watchers ten times over, or the watches of 1,000
    # simulated agents; each costs the server about 30 KB.
    streams: Room = Room(15_000, 5_000, 5_000)
    # Bytes of pages of lists that clients have not taken yet. A page has up to 2 MiB: 24 MiB are 12 pages at a time,
    # and enough for one core's work. Pages that wait cost nothing but their requests' room, which bounds their number.
    answer_bytes: Room = Room(24 << 20, 8 << 20, 16 << 20, queue=1_000, wait=15.0)
    # Bytes of batches of watches that clients have not taken yet: beyond, batches have at most 64 KiB and not 2 MiB.
    watch_bytes: int = 64 << 20
    # Seconds that a client may take for a page of a list (2 MiB in 30 s are 70 KB/s) or for a batch of a watch.
    reading: float = 30.0


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
    limits: LoadLimits = LoadLimits()
    # Where several processes share `listen`: HOST:PORT that this one serves besides, alone; None: `listen` is its own.
    own_listen: str | None = None

    def of_process(self, number: int) -> ApiSettings:
        """Those of one of several processes that share `listen`, counted from 0: what cannot be shared is its own.

        Its own address has the port 1 + `number` above that of `listen`, its metrics have the port `number` above, and
        all but the first have their number in the socket's name. Raises ValueError where `listen` cannot be shared.
        """
        if self.listen is None or self.advertise is None:
            raise ValueError("several processes share an address, which needs --listen: a socket file has one server")
        return replace(
            self,
            socket=self.socket.with_stem(f"{self.socket.stem}-{number}") if number else self.socket,
            advertise=_port_above(self.advertise, 1 + number),
            metrics=_port_above(self.metrics, number) if self.metrics is not None else None,
            own_listen=_port_above(self.listen, 1 + number),
        )


def _port_above(address: str, ports: int) -> str:
    host, separator, port = address.rpartition(":")
    if not (separator and port.isdecimal()):
        raise ValueError(f"{address!r} is no address: write it as HOST:PORT")
    if not 0 < int(port) <= 65535 - ports:
        raise ValueError(f"the {ports} ports above {address} are needed too, and ports end at 65535")
    return f"{host}:{int(port) + ports}"


@dataclass(frozen=True, slots=True)
class ElectedSettings:
    """The roles that act only while they hold an election: scheduler and controllers."""

    etcd: EtcdSettings
    # Endpoints of the API, as podwire.client takes them.
    api: tuple[str, ...]
    tls: Tls | None
    # Holds the lock that says that no other process of this role runs here, and the name of this candidate.
    run_dir: Path
