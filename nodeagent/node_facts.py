"""What the machine says of itself, for its Node object: read from /proc, /etc and the file system."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from podwire import v1

# Kubernetes' default for a node (maxPods).
MAX_PODS: Final = 110
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What does not change while the agent runs. Memory and disk in bytes."""

    cpus: int
    memory: int
    disk: int
    info: v1.NodeSystemInfo


def read(state_dir: Path, runtime_version: str) -> NodeFacts:
    """`state_dir` is on the disk that pods' volumes use; `runtime_version` as in `1.6.20~ds1`."""
    return NodeFacts(
        cpus=len(os.sched_getaffinity(0)),
        memory=_memory(),
        disk=shutil.disk_usage(state_dir).total,
        info=v1.NodeSystemInfo(
            machine_id=_text("/etc/machine-id"),
            system_uuid=_text("/sys/class/dmi/id/product_uuid"),
            boot_id=_text("/proc/sys/kernel/random/boot_id"),
            kernel_version=platform.release(),
            os_image=platform.freedesktop_os_release().get("PRETTY_NAME", "Linux"),
            container_runtime_version=f"containerd://{runtime_version}",
            kubelet_version=f"podwire-{version('podwire')}",
            operating_system="linux",
            architecture=architecture(),
        ),
    )


def architecture() -> str:
    """As Go, and so every image and label, names it."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def resources(facts: NodeFacts) -> dict[str, str]:
    """Capacity by resource, in Kubernetes' notation. All of it may be given to pods."""
    return {
        "cpu": str(facts.cpus),
        "memory": f"{facts.memory // 1024}Ki",
        "ephemeral-storage": f"{facts.disk // 1024}Ki",
        "pods": str(MAX_PODS),
    }


def _memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemTotal":
            return int(value.split()[0]) * 1024
    raise RuntimeError("/proc/meminfo has no MemTotal")


def _text(path: str) -> str:
    """The file's text; empty where the machine does not have it."""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
