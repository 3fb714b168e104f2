"""The agent's settings: its command line, checked."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from podwire.client import Tls


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """Paths are the node's own, because several nodes of a lab share a machine. Folders are made where missing."""

    node_name: str
    # The node's address: other nodes reach it and its pods' ports here.
    node_ip: str
    # host:port of the control plane's replicas.
    api: tuple[str, ...]
    tls: Tls | None
    containerd: Path
    containerd_namespace: str
    # runc's state, apart from that of other nodes on the machine.
    runc_root: Path
    # Survives reboots: checkpoints, volumes, addresses.
    state_dir: Path
    # Does not: pins of namespaces, pipes, sockets.
    run_dir: Path
    log_dir: Path
    # The log pump's socket.
    logs_socket: Path
    cgroup_parent: str
    # The network of all nodes' pods: traffic to it keeps its source address.
    cluster_cidr: str
    # Configuration lists of another network plugin; None: our own.
    cni_conf_dir: Path | None
    # Executables of other network plugins.
    cni_bin_dirs: tuple[Path, ...]
    labels: dict[str, str]
    log_format: str
    log_level: str

    @property
    def xtables_lock(self) -> Path:
        """The lock of the older iptables, which is one for all namespaces of a machine unless it is named."""
        return self.run_dir / "xtables.lock"


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="podwire-agent", description="Runs this node's share of the cluster's pods.")
    commands = root.add_subparsers(dest="command", required=True)
    for name, text in (
        ("run", "run the agent until SIGTERM; pods keep running when it ends"),
        ("check", "look at the node and say what the agent would miss, and how to mend it"),
    ):
        _arguments(commands.add_parser(name, help=text, description=text))
    return root


def _arguments(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--node-name", required=True, help="the node's name in the cluster")
    add("--node-ip", required=True, type=_address, help="the node's address, as other nodes reach it")
    add("--api", required=True, type=_endpoints, metavar="HOST:PORT[,...]", help="the control plane's replicas")
    add("--tls-ca", type=Path, metavar="FILE", help="the cluster's CA certificate")
    add("--tls-cert", type=Path, metavar="FILE", help="this node's certificate")
    add("--tls-key", type=Path, metavar="FILE", help="its key")
    add("--containerd", type=Path, default=Path("/run/containerd/containerd.sock"), metavar="SOCKET")
    add("--containerd-namespace", default="k8s.io", help="where containerd's image service keeps images (%(default)s)")
    add("--runc-root", type=Path, default=Path("/run/podwire/runc"), metavar="DIR", help="runc's state (%(default)s)")
    add(
        "--state-dir",
        type=Path,
        default=Path("/var/lib/podwire"),
        metavar="DIR",
        help="kept over reboots (%(default)s)",
    )
    add("--run-dir", type=Path, default=Path("/run/podwire"), metavar="DIR", help="not kept (%(default)s)")
    add(
        "--log-dir",
        type=Path,
        default=Path("/var/log/podwire/pods"),
        metavar="DIR",
        help="containers' logs (%(default)s)",
    )
    add(
        "--logs-socket",
        type=Path,
        default=Path("/run/podwire/logs.sock"),
        metavar="SOCKET",
        help="the log pump (%(default)s)",
    )
    add("--cgroup-parent", default="/podwire", help="the cgroup that pods' cgroups are made in (%(default)s)")
    add("--pod-cidr", default="10.244.0.0/16", metavar="CIDR", help="the network of all nodes' pods (%(default)s)")
    add("--cni-conf-dir", type=Path, metavar="DIR", help="another network plugin's configuration; default: our own")
    add("--cni-bin-dir", type=Path, action="append", metavar="DIR", help="its executables (/opt/cni/bin)")
    add(
        "--label", type=_label, action="append", default=[], metavar="KEY=VALUE", help="a label of the node; repeatable"
    )
    add("--log-format", choices=("text", "json"), default="text")
    add("--log-level", choices=("debug", "info", "warning", "error"), default="info")


def parse(arguments: Sequence[str]) -> tuple[str, AgentSettings]:
    """The command (run or check) and its settings; exits with a usage message where they are wrong."""
    root = parser()
    given = root.parse_args(arguments)
    files = (given.tls_ca, given.tls_cert, given.tls_key)
    if any(files) and not all(files):
        root.error("--tls-ca, --tls-cert and --tls-key go together")
    if not any(files) and not all(endpoint.startswith("unix:") for endpoint in given.api):
        root.error("--tls-ca, --tls-cert and --tls-key are needed to reach the control plane at an address")
    for file in filter(None, files):
        if not file.is_file():
            root.error(f"there is no file {file}")
    settings = AgentSettings(
        node_name=given.node_name,
        node_ip=given.node_ip,
        api=given.api,
        tls=Tls(*files) if all(files) else None,
        containerd=given.containerd,
        containerd_namespace=given.containerd_namespace,
        runc_root=given.runc_root,
        state_dir=given.state_dir,
        run_dir=given.run_dir,
        log_dir=given.log_dir,
        logs_socket=given.logs_socket,
        cgroup_parent=given.cgroup_parent,
        cluster_cidr=given.pod_cidr,
        cni_conf_dir=given.cni_conf_dir,
        cni_bin_dirs=tuple(given.cni_bin_dir or [Path("/opt/cni/bin")]),
        labels=dict(given.label),
        log_format=given.log_format,
        log_level=given.log_level,
    )
    return given.command, settings


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _endpoints(text: str) -> tuple[str, ...]:
    endpoints = tuple(part.strip() for part in text.split(",") if part.strip())
    if not endpoints:
        raise argparse.ArgumentTypeError("at least one HOST:PORT is needed")
    return endpoints


def _label(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not key or not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value
