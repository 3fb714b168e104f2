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
MAX_CONTROLPLANES = 9
# An even number tolerates no more failures than the odd one below it.
ETCD_SIZES = (1, 3, 5, 7)
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
    controlplanes: int = 1
    etcd_members: int = 1

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise PlanError(
                f"{self.name!r} cannot name a lab: use up to 24 of a-z, 0-9 and '-', beginning and ending with a letter"
                " or digit"
            )
        if not 1 <= self.nodes <= MAX_NODES:
            raise PlanError(f"a lab has 1 to {MAX_NODES} nodes, not {self.nodes}")
        if not 1 <= self.controlplanes <= MAX_CONTROLPLANES:
            raise PlanError(f"a lab has 1 to {MAX_CONTROLPLANES} control planes, not {self.controlplanes}")
        if self.etcd_members not in ETCD_SIZES:
            sizes = ", ".join(map(str, ETCD_SIZES))
            raise PlanError(f"a lab's etcd has one of {sizes} members, not {self.etcd_members}")

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
    def cuts_file(self) -> Path:
        """Which packets between hosts are dropped; a reboot of the machine ends that, as it ends the hosts."""
        return self.run / "cuts.json"

    @property
    def api_socket(self) -> Path:
        """Of the first control plane."""
        return api_socket(self.controlplane)

    @property
    def api_sockets(self) -> tuple[Path, ...]:
        """Of every control plane: a client on the machine is given all of them."""
        return tuple(api_socket(host) for host in self.controlplane_hosts)

    @property
    def client_config(self) -> Path:
        """What podctl looks for; it exists while the lab is ready to be used."""
        return self.run / "client.yaml"

    @property
    def hosts(self) -> tuple[Host, ...]:
        return (self.registry, self.client, *self.controlplane_hosts, *self.etcd_hosts, *self.node_hosts)

    @property
    def registry(self) -> Host:
        return self._host("registry", Role.REGISTRY, 2)

    @property
    def client(self) -> Host:
        return self._host("client", Role.CLIENT, 3)

    @property
    def controlplane(self) -> Host:
        """The first one."""
        return self.controlplane_hosts[0]

    @property
    def controlplane_hosts(self) -> tuple[Host, ...]:
        return self._numbered("controlplane", Role.CONTROLPLANE, self.controlplanes, 11)

    @property
    def etcd(self) -> Host:
        """The first member."""
        return self.etcd_hosts[0]

    @property
    def etcd_hosts(self) -> tuple[Host, ...]:
        return self._numbered("etcd", Role.ETCD, self.etcd_members, 21)

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

    def _numbered(self, name: str, role: Role, count: int, first: int) -> tuple[Host, ...]:
        """The only one goes without a number."""
        if count == 1:
            return (self._host(name, role, first),)
        return tuple(self._host(f"{name}{index + 1}", role, first + index) for index in range(count))

    def _host(self, name: str, role: Role, number: int) -> Host:
        return Host(self.name, name, role, NETWORK.network_address + number)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        return cls(**json.loads(text))


def api_socket(host: Host) -> Path:
    """Where the API of a control plane's host is, for clients on the machine itself."""
    return host.run / "api.sock"


def saved(name: str) -> Plan | None:
    """The lab of that name, whether it runs, is half made or half removed; None where there is none."""
    try:
        return Plan.from_json((DATA_ROOT / name / "lab.json").read_text())
    except FileNotFoundError:
        return None


def all_saved() -> list[Plan]:
    """Every lab of this machine, by name."""
    return [Plan.from_json(file.read_text()) for file in sorted(DATA_ROOT.glob("*/lab.json"))]
