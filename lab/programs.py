"""How each program of a host is started: its command line, environment and files, and how to tell that it answers.

Pure: it decides, `lab.lab` does. The programs are the ones that a real machine runs, with nothing but paths and
addresses changed; that hosts share the machine's disk is why every path is given.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lab.errors import PlanError
from lab.plan import (
    API_PORT,
    ETCD_PEER_PORT,
    ETCD_PORT,
    NODE_PORTS,
    POD_CIDR,
    REGISTRY_PORT,
    SERVICE_CIDR,
    Host,
    Plan,
    Role,
    api_socket,
)

TOOLS = Path(__file__).resolve().parents[1] / ".tools"
_BIN = Path(sys.executable).parent

CONTAINERD_NAMESPACE = "k8s.io"


@dataclass(frozen=True)
class Program:
    """How to start a program, and where it can be spoken to once it is ready.

    `grace` is how long it has, in seconds, to end by itself.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    files: Mapping[Path, str] = field(default_factory=dict)
    folders: tuple[Path, ...] = ()
    port: int | None = None
    socket: Path | None = None
    grace: float = 10.0


def search_path() -> str:
    """The machine's own programs first, then those that scripts/setup unpacked; ours come from beside this Python."""
    system = os.environ.get("PATH", "").split(os.pathsep)
    unpacked = [str(TOOLS / folder) for folder in ("usr/bin", "usr/sbin", "bin")]
    wanted = [str(_BIN), *system, "/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin", *unpacked]
    return os.pathsep.join(dict.fromkeys(folder for folder in wanted if folder))


def environment(host: Host) -> dict[str, str]:
    """The environment of whatever runs on the host: nothing of the caller's, so no proxy that is out of reach there."""
    kept = {name: os.environ[name] for name in ("LANG", "TERM", "SSL_CERT_FILE") if name in os.environ}
    ours = {"PATH": search_path(), "HOME": "/root", "PODWIRE_LAB": f"{host.lab}/{host.name}"}
    if host.role is Role.NODE:
        ours |= {
            # iptables-legacy locks one file for all network namespaces of a machine.
            "XTABLES_LOCKFILE": str(host.run / "xtables.lock"),
            # For ctr, in the hands of a curious person.
            "CONTAINERD_ADDRESS": str(_containerd_socket(host)),
            "CONTAINERD_NAMESPACE": CONTAINERD_NAMESPACE,
        }
    return kept | ours


def program(plan: Plan, host: Host, name: str) -> Program:
    """How `name` is started on `host`."""
    match name:
        case "etcd":
            return _etcd(plan, host)
        case "registry":
            return _registry(host)
        case "controlplane":
            return _controlplane(plan, host)
        case "containerd":
            return _containerd(plan, host)
        case "logs":
            return _logs(host)
        case "agent":
            return _agent(plan, host)
    raise PlanError(f"there is no program {name!r}")


def _etcd(plan: Plan, host: Host) -> Program:
    clients = _etcd_url(host)
    peers = _etcd_url(host, ETCD_PEER_PORT)
    cluster = ",".join(f"{member.name}={_etcd_url(member, ETCD_PEER_PORT)}" for member in plan.etcd_hosts)
    authority, certificate, key = (str(plan.pki / name) for name in ("ca.crt", f"{host.name}.crt", f"{host.name}.key"))
    return Program(
        argv=(
            "etcd",
            f"--name={host.name}",
            f"--data-dir={host.data / 'etcd'}",
            f"--listen-client-urls={clients}",
            f"--advertise-client-urls={clients}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster={cluster}",
            "--client-cert-auth",
            f"--trusted-ca-file={authority}",
            f"--cert-file={certificate}",
            f"--key-file={key}",
            "--peer-client-cert-auth",
            f"--peer-trusted-ca-file={authority}",
            f"--peer-cert-file={certificate}",
            f"--peer-key-file={key}",
            "--logger=zap",
        ),
        environment=environment(host),
        port=ETCD_PORT,
    )


def _etcd_url(host: Host, port: int = ETCD_PORT) -> str:
    return f"https://{host.address}:{port}"


def _registry(host: Host) -> Program:
    config = host.data / "registry.yml"
    return Program(
        argv=("docker-registry", "serve", str(config)),
        environment=environment(host),
        files={
            config: f"""\
version: 0.1
log:
  level: warn
storage:
  filesystem:
    rootdirectory: {host.data / "registry"}
http:
  addr: {host.address}:{REGISTRY_PORT}
"""
        },
        port=REGISTRY_PORT,
    )


def _controlplane(plan: Plan, host: Host) -> Program:
    return Program(
        argv=(
            str(_BIN / "podwire-controlplane"),
            "all",
            f"--etcd={','.join(map(_etcd_url, plan.etcd_hosts))}",
            f"--etcd-ca={plan.pki / 'ca.crt'}",
            f"--etcd-cert={plan.pki / host.name}.crt",
            f"--etcd-key={plan.pki / host.name}.key",
            f"--listen={host.address}:{API_PORT}",
            f"--advertise={host.address}:{API_PORT}",
            f"--socket={api_socket(host)}",
            f"--api={','.join(_api_endpoints(plan, host))}",
            f"--tls-ca={plan.pki / 'ca.crt'}",
            f"--tls-cert={plan.pki / host.name}.crt",
            f"--tls-key={plan.pki / host.name}.key",
            f"--service-cidr={SERVICE_CIDR}",
            f"--pod-cidr={POD_CIDR}",
            f"--node-port-range={NODE_PORTS[0]}-{NODE_PORTS[1]}",
            f"--run-dir={host.run}",
        ),
        environment=environment(host),
        socket=api_socket(host),
    )


def _api_endpoints(plan: Plan, host: Host) -> list[str]:
    """For the leaders on a control plane's host: its own replica first, then the others, in case that one fails."""
    others = [f"{other.address}:{API_PORT}" for other in plan.controlplane_hosts if other != host]
    return [f"unix:{api_socket(host)}", *others]


def _containerd(plan: Plan, host: Host) -> Program:
    config = host.data / "containerd.toml"
    registries = host.data / "registries"
    mirror = f'[host."http://{plan.registry.address}:{REGISTRY_PORT}"]\n  capabilities = ["pull", "resolve"]\n'
    return Program(
        argv=("containerd", "--config", str(config)),
        environment=environment(host),
        files={
            config: f"""\
version = 2
root = "{host.data / "containerd"}"
state = "{host.run / "containerd"}"
# The first writes to /opt; the others need file systems and devices that a lab has not.
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
  address = "{_containerd_socket(host)}"

# Podwire pulls images through the CRI service, with its configuration of registries. It runs no pods through it.
[plugins."io.containerd.grpc.v1.cri"]
  disable_tcp_service = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{host.run / "no-cni"}"
    conf_dir = "{host.run / "no-cni"}"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{registries}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      Root = "{host.run / "runc"}"
""",
            # The lab's registry is asked first for every name; what it has not comes from where the name says.
            registries / "_default" / "hosts.toml": mirror,
        },
        folders=(host.run / "no-cni", host.run / "runc"),
        socket=_containerd_socket(host),
    )


def _logs(host: Host) -> Program:
    return Program(
        argv=(str(_BIN / "podwire-logs"), f"--socket={_logs_socket(host)}", f"--state-dir={host.data / 'logs'}"),
        environment=environment(host),
        folders=(host.data / "logs",),
        socket=_logs_socket(host),
    )


def _agent(plan: Plan, host: Host) -> Program:
    return Program(
        argv=(
            str(_BIN / "podwire-agent"),
            "run",
            f"--node-name={host.name}",
            f"--node-ip={host.address}",
            f"--api={','.join(f'{replica.address}:{API_PORT}' for replica in plan.controlplane_hosts)}",
            f"--tls-ca={plan.pki / 'ca.crt'}",
            f"--tls-cert={plan.pki / host.name}.crt",
            f"--tls-key={plan.pki / host.name}.key",
            f"--containerd={_containerd_socket(host)}",
            f"--containerd-namespace={CONTAINERD_NAMESPACE}",
            f"--runc-root={host.run / 'runc'}",
            f"--state-dir={host.data / 'agent'}",
            f"--run-dir={host.run / 'agent'}",
            f"--log-dir={host.data / 'pods'}",
            f"--logs-socket={_logs_socket(host)}",
            f"--cgroup-parent={host.cgroup}",
            f"--label=kubernetes.io/hostname={host.name}",
        ),
        environment=environment(host),
        folders=(host.data / "agent", host.data / "pods", host.run / "agent"),
    )


def _containerd_socket(host: Host) -> Path:
    return host.run / "containerd" / "containerd.sock"


def _logs_socket(host: Host) -> Path:
    return host.run / "logs.sock"
