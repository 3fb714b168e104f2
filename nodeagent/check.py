"""`podwire-agent check`: looks at a node as the agent would use it, changes nothing, has a remedy for each fault."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cni import iptables
from cni.iptables import IptablesError
from nodeagent.containerd.api import containers_pb2
from nodeagent.containerd.client import Client, ContainerdError
from nodeagent.sandboxes.cgroups import Mode, parse_mounts
from nodeagent.settings import AgentSettings

# Oldest containerd whose API and image service are known to do; Debian 12 has 1.6.20.
_OLDEST_CONTAINERD: Final = (1, 6)
# What the kubelet's CRI plugin puts on every container it makes.
_KUBELET_LABEL: Final = "io.cri-containerd.kind"


@dataclass(frozen=True, slots=True)
class Finding:
    """`remedy` is empty where all is well."""

    subject: str
    what: str
    remedy: str = ""

    @property
    def is_fault(self) -> bool:
        return bool(self.remedy)


async def run(settings: AgentSettings) -> int:
    """Prints every finding; 0 where the node can run an agent, 1 where something must be mended first."""
    findings = await examine(settings)
    for finding in findings:
        print(f"{'FAIL' if finding.is_fault else 'ok':<5}{finding.subject}: {finding.what}")
        if finding.is_fault:
            print(f"     → {finding.remedy}")
    faults = sum(finding.is_fault for finding in findings)
    print(f"{faults} of {len(findings)} need attention" if faults else "the node is ready for podwire-agent")
    return 1 if faults else 0


async def examine(settings: AgentSettings) -> list[Finding]:
    containerd = await _containerd(settings)
    looks: tuple[Callable[[], Finding], ...] = (
        _root,
        _catatonit,
        _runc,
        _cgroups,
        _iptables(settings),
        _ip_forward,
        _bridge_netfilter,
        lambda: _pump(settings.logs_socket),
    )
    others = await asyncio.gather(*(asyncio.to_thread(look) for look in looks))
    return [*containerd, *others]


async def _containerd(settings: AgentSettings) -> list[Finding]:
    where = settings.containerd
    async with Client(where, settings.containerd_namespace) as client:
        try:
            version = await client.version()
        except ContainerdError as error:
            return [
                Finding(
                    "containerd",
                    f"does not answer at {where}: {error}",
                    "start it (systemctl start containerd), or name its socket with --containerd",
                )
            ]
        shared = await _asked(lambda: _kubelet_containers(client))
    findings = []
    if _numbers(version) < _OLDEST_CONTAINERD:
        findings.append(Finding("containerd", f"{version} at {where}", "install containerd 1.6 or newer"))
    else:
        findings.append(Finding("containerd", f"{version} at {where}"))
    namespace = settings.containerd_namespace
    if shared:
        findings.append(
            Finding(
                "containerd's namespace",
                f"{namespace} has {shared} containers of a kubelet",
                "a node has one master: stop the kubelet and remove its pods (crictl rmp -af), or take another node",
            )
        )
    else:
        findings.append(Finding("containerd's namespace", f"{namespace} is ours alone"))
    return findings


async def _asked(call: Callable[[], Awaitable[int]]) -> int:
    try:
        return await call()
    except ContainerdError:
        # A namespace that is not there yet has nothing in it.
        return 0


async def _kubelet_containers(client: Client) -> int:
    request = containers_pb2.ListContainersRequest(filters=[f'labels."{_KUBELET_LABEL}"'])
    answer = await client.call(client.containers.List, request)
    return len(answer.containers)


def _numbers(version: str) -> tuple[int, ...]:
    """1.6.20~ds1 -> (1, 6)."""
    parts = version.lstrip("v").split(".")[:2]
    return tuple(int(part) for part in parts if part.isdecimal())


def _root() -> Finding:
    if os.geteuid() == 0:
        return Finding("user", "root")
    return Finding("user", f"uid {os.geteuid()}", "run the agent as root: it makes namespaces, mounts and cgroups")


def _catatonit() -> Finding:
    return _program("catatonit", "it is the first process of every pod", "apt install catatonit")


def _runc() -> Finding:
    return _program("runc", "containerd runs containers with it", "apt install runc")


def _program(name: str, why: str, remedy: str) -> Finding:
    path = shutil.which(name)
    if path is None:
        return Finding(name, f"is not on PATH; {why}", f"{remedy}, or add its folder to the agent's PATH")
    return Finding(name, path)


def _cgroups() -> Finding:
    try:
        mode, hierarchies = parse_mounts(Path("/proc/self/mountinfo").read_text())
    except LookupError:
        return Finding("cgroups", "none are mounted", "mount cgroup2 on /sys/fs/cgroup")
    for hierarchy in hierarchies:
        if not os.access(hierarchy.root, os.W_OK):
            return Finding(
                "cgroups",
                f"{hierarchy.root} cannot be written",
                "run the agent in the host's mount namespace, under systemd with Delegate=yes",
            )
    names = {Mode.V2: "version 2", Mode.V1: "version 1", Mode.HYBRID: "versions 1 and 2 (hybrid)"}
    return Finding("cgroups", names[mode])


def _iptables(settings: AgentSettings) -> Callable[[], Finding]:
    def look() -> Finding:
        try:
            tool = iptables.detect(settings.xtables_lock)
        except IptablesError as error:
            return Finding("iptables", str(error), "apt install iptables, and run as root")
        return Finding("iptables", f"the host uses {tool.kind}")

    return look


def _ip_forward() -> Finding:
    # The agent switches it on; a host on which that is forbidden would forward nothing.
    return _switch("ipv4/ip_forward", "run the agent as root in the host's namespaces, or set net.ipv4.ip_forward=1")


def _bridge_netfilter() -> Finding:
    return _switch("bridge/bridge-nf-call-iptables", "modprobe br_netfilter, and name it in /etc/modules-load.d")


def _switch(name: str, remedy: str) -> Finding:
    path = Path("/proc/sys/net") / name
    subject = f"net.{name.replace('/', '.')}"
    try:
        value = path.read_text().strip()
    except OSError as error:
        return Finding(subject, f"cannot be read: {error.strerror}", remedy)
    if value != "1" and not os.access(path, os.W_OK):
        return Finding(subject, f"is {value} and cannot be written", remedy)
    return Finding(subject, "on" if value == "1" else "off; the agent switches it on")


def _pump(path: Path) -> Finding:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(2)
        try:
            connection.connect(str(path))
        except OSError as error:
            return Finding(
                "log pump",
                f"does not answer at {path}: {error.strerror}",
                "start podwire-logs, or name its socket with --logs-socket",
            )
    return Finding("log pump", str(path))
