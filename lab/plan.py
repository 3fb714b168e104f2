"""What a lab consists of, as values: its hosts, their addresses, programs and places on the disk.

Everything a lab makes has a name that follows from the lab's own (`podwire-<lab>-<host>` is a network namespace,
`/podwire/<lab>-<host>` a cgroup), and the plan is written down before the first effect. So the plan is the journal too:
whatever a killed `up` had done by then, `down` knows where to look for it, and needs no record of each step.
"""

import json
import re
from dataclasses import asdict, dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from lab.errors import PlanError

RUN_ROOT = Path("/run/podwire/labs")
DATA_ROOT = Path("/var/lib/podwire/labs")
NETNS_ROOT = Path("/run/netns")

NETWORK = IPv4Network("10.77.0.0/24")
SERVICE_CIDR = IPv4Network("10.96.0.0/12")
POD_CIDR = IPv4Network("10.244.0.0/16")
NODE_PORTS = (30000, 32767)

API_PORT = 6440
ETCD_PORT = 2379
ETCD_PEER_PORT = 2380
REGISTRY_PORT = 5000

DEFAULT_NAME = "podwire"
DEFAULT_NODES = 2
MAX_NODES = 150
# A label of a host name; short, so that every unix socket below the lab's folder stays under the kernel's 107 bytes.
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?")


class Role(StrEnum):
    """What a host is for."""

    CONTROLPLANE = "controlplane"
    ETCD = "etcd"
    REGISTRY = "registry"
    CLIENT = "client"
    NODE = "node"


PROGRAMS: dict[Role, tuple[str, ...]] = {
    Role.CONTROLPLANE: ("controlplane",),
    Role.ETCD: ("etcd",),
    Role.REGISTRY: ("registry",),
    Role.CLIENT: (),
    Role.NODE: ("containerd", "logs", "agent"),
}
"""The programs of a host in the order they start; they are stopped the other way round."""


@dataclass(frozen=True)
class Host:
    """A host of a lab: a network namespace with one address, and folders of its own."""

    lab: str
    name: str
    role: Role
    address: IPv4Address

    @property
    def netns(self) -> Path:
        """The pin of its network namespace, where `ip netns` looks for it."""
        return NETNS_ROOT / f"podwire-{self.lab}-{self.name}"

    @property
    def run(self) -> Path:
        """What a reboot of the host would lose: sockets, pid files, state of running containers."""
        return RUN_ROOT / self.lab / self.name

    @property
    def data(self) -> Path:
        """What a reboot would keep: databases, images, logs."""
        return DATA_ROOT / self.lab / self.name

    @property
    def cgroup(self) -> str:
        return f"/podwire/{self.lab}-{self.name}"

    @property
    def programs(self) -> tuple[str, ...]:
        return PROGRAMS[self.role]

    @property
    def logs(self) -> Path:
        return self.data / "log"

    def log(self, program: str) -> Path:
        return self.logs / f"{program}.log"

    def pidfile(self, program: str) -> Path:
        return self.run / f"{program}.pid"


@dataclass(frozen=True)
class Plan:
    """A lab. `checkout` is the folder it was started from: whose programs run in it."""

    name: str
    nodes: int
    checkout: str

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise PlanError(
                f"{self.name!r} cannot name a lab: use up to 24 of a-z, 0-9 and '-', beginning and ending with a letter"
                " or digit"
            )
        if not 1 <= self.nodes <= MAX_NODES:
            raise PlanError(f"a lab has 1 to {MAX_NODES} nodes, not {self.nodes}")

    @property
    def run(self) -> Path:
        return RUN_ROOT / self.name

    @property
    def data(self) -> Path:
        return DATA_ROOT / self.name

    @property
    def file(self) -> Path:
        """Where the plan itself is kept."""
        return self.data / "lab.json"

    @property
    def pki(self) -> Path:
        return self.data / "pki"

    @property
    def switch(self) -> Path:
        """The network namespace of the bridge that joins the hosts."""
        return NETNS_ROOT / f"podwire-{self.name}-switch"

    @property
    def api_socket(self) -> Path:
        return self.controlplane.run / "api.sock"

    @property
    def client_config(self) -> Path:
        """What podctl looks for; it exists while the lab is ready to be used."""
        return self.run / "client.yaml"

    @property
    def hosts(self) -> tuple[Host, ...]:
        return (self.registry, self.client, self.controlplane, self.etcd, *self.node_hosts)

    @property
    def registry(self) -> Host:
        return self._host("registry", Role.REGISTRY, 2)

    @property
    def client(self) -> Host:
        return self._host("client", Role.CLIENT, 3)

    @property
    def controlplane(self) -> Host:
        return self._host("controlplane", Role.CONTROLPLANE, 11)

    @property
    def etcd(self) -> Host:
        return self._host("etcd", Role.ETCD, 21)

    @property
    def node_hosts(self) -> tuple[Host, ...]:
        return tuple(self._host(f"node{number}", Role.NODE, 100 + number) for number in range(1, self.nodes + 1))

    def host(self, name: str) -> Host:
        for host in self.hosts:
            if host.name == name:
                return host
        known = ", ".join(host.name for host in self.hosts)
        raise PlanError(f"lab {self.name} has no host {name!r}; its hosts are {known}")

    def program(self, host: Host, name: str) -> str:
        """`name`, if it is a program of `host`."""
        if name in host.programs:
            return name
        known = ", ".join(host.programs) or "none"
        raise PlanError(f"host {self.name}/{host.name} runs no {name!r}; its programs: {known}")

    def _host(self, name: str, role: Role, number: int) -> Host:
        return Host(self.name, name, role, NETWORK.network_address + number)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        return cls(**json.loads(text))


def saved(name: str) -> Plan | None:
    """The lab of that name, whether it runs, is half made or half removed; None where there is none."""
    try:
        return Plan.from_json((DATA_ROOT / name / "lab.json").read_text())
    except FileNotFoundError:
        return None


def all_saved() -> list[Plan]:
    """Every lab of this machine, by name."""
    return [Plan.from_json(file.read_text()) for file in sorted(DATA_ROOT.glob("*/lab.json"))]
