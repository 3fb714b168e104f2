"""The OCI runtime specification of a container: its mounts, namespaces, confinement. Pure.

containerd's API adds no defaults, so the hardening is here: what Docker and containerd mask, make read-only and leave
out for a container that asks for nothing special. Lists without a comment of their own are theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nodeagent.containers.process import Process
from nodeagent.model import Mount

VERSION: Final = "1.0.2"
GROUP_ANNOTATION: Final = "io.containerd.runc.v2.group"
_MASKED: Final = (
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
)  # fmt: skip
_READ_ONLY: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_BEST_EFFORT_OOM_SCORE: Final = 1000
"""Kubernetes' for pods that request nothing: the first to be killed when the node runs out of memory."""


def _system(destination: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


_PROC: Final = _system("/proc", "proc", "proc", "nosuid", "noexec", "nodev")
_DEV: Final = _system("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a container finds in its pod: `namespaces` maps OCI types to pins; a type that is not in it is the host's,
    one without a pin is the container's own."""

    namespaces: Mapping[str, Path | None]
    group: str
    cgroup: str
    files: Mapping[str, Path]
    shm: Path


@dataclass(frozen=True, slots=True)
class Confinement:
    """What a container may do beyond the default, and what holds it back."""

    seccomp: Mapping[str, Any] | None
    privileged: bool
    read_only_root: bool
    unmasked_proc: bool
    host_devices: tuple[Mapping[str, Any], ...] = ()


def container_spec(
    process: Process,
    surroundings: Surroundings,
    confinement: Confinement,
    mounts: Sequence[Mount],
    *,
    private_cgroups: bool,
    best_effort: bool,
) -> dict[str, Any]:
    """The whole specification. A mount of the pod takes the place of a default one with the same destination."""
    oci_process = process.to_oci()
    if best_effort:
        # Raising needs no capability; lowering does, and is never done.
        oci_process["oomScoreAdj"] = _BEST_EFFORT_OOM_SCORE
    taken = {mount.destination.rstrip("/") for mount in mounts}
    system = [mount for mount in _system_mounts(surroundings, confinement) if mount["destination"] not in taken]
    linux: dict[str, Any] = {
        "namespaces": _namespaces(surroundings.namespaces, private_cgroups=private_cgroups),
        "cgroupsPath": surroundings.cgroup,
        "resources": {"devices": [{"allow": confinement.privileged, "access": "rwm"}]},
    }
    if not confinement.privileged and not confinement.unmasked_proc:
        linux["maskedPaths"] = list(_MASKED)
        linux["readonlyPaths"] = list(_READ_ONLY)
    if confinement.seccomp is not None:
        linux["seccomp"] = confinement.seccomp
    if confinement.host_devices:
        linux["devices"] = list(confinement.host_devices)
    if any(mount.propagation.endswith(("shared", "slave")) for mount in mounts):
        shared = any(mount.propagation.endswith("shared") for mount in mounts)
        linux["rootfsPropagation"] = "rshared" if shared else "rslave"
    return {
        "ociVersion": VERSION,
        "process": oci_process,
        "root": {"path": "rootfs", "readonly": confinement.read_only_root},
        # Outer folders before what is mounted in them; the sort is stable.
        "mounts": system + [_bind(mount) for mount in sorted(mounts, key=lambda mount: mount.destination.count("/"))],
        "annotations": {GROUP_ANNOTATION: surroundings.group},
        "linux": linux,
    }


def pause_spec(
    root: Path,
    arguments: Sequence[str],
    surroundings: Surroundings,
    sysctls: Mapping[str, str],
    *,
    private_cgroups: bool,
) -> dict[str, Any]:
    """The specification of the process that holds a pod: no capability, a read-only root, the mounts that runc needs.

    Without one at /dev, runc would make devices in the root that all pods share, where those that start at the same
    time would meet.
    """
    return {
        "ociVersion": VERSION,
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": list(arguments),
            "cwd": "/",
            "capabilities": {},
            "noNewPrivileges": True,
        },
        "root": {"path": str(root), "readonly": True},
        "mounts": [
            _PROC,
            _DEV,
        ],
        "annotations": {GROUP_ANNOTATION: surroundings.group},
        "linux": {
            "namespaces": _namespaces(surroundings.namespaces, private_cgroups=private_cgroups),
            "cgroupsPath": surroundings.cgroup,
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "maskedPaths": list(_MASKED),
            "readonlyPaths": list(_READ_ONLY),
            **({"sysctl": dict(sysctls)} if sysctls else {}),
        },
    }


def _namespaces(pins: Mapping[str, Path | None], *, private_cgroups: bool) -> list[dict[str, str]]:
    namespaces = [{"type": kind, "path": str(pin)} if pin else {"type": kind} for kind, pin in pins.items()]
    namespaces.append({"type": "mount"})
    if private_cgroups:
        namespaces.append({"type": "cgroup"})
    return namespaces


def _system_mounts(surroundings: Surroundings, confinement: Confinement) -> list[dict[str, Any]]:
    access = "rw" if confinement.privileged else "ro"
    mounts = [
        _PROC,
        _DEV,
        _system("/dev/pts", "devpts", "devpts",
                "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        _system("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
        _system("/dev/shm", "bind", str(surroundings.shm), "rbind", "rprivate", "nosuid", "noexec", "nodev", "rw"),
        _system("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", access),
        _system("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", access),
    ]  # fmt: skip
    for destination, source in surroundings.files.items():
        # A read-only root is meant to include them.
        files_access = "ro" if confinement.read_only_root else "rw"
        mounts.append(_system(destination, "bind", str(source), "rbind", "rprivate", files_access))
    return mounts


def _bind(mount: Mount) -> dict[str, Any]:
    access = "ro" if mount.read_only else "rw"
    return _system(mount.destination, "bind", str(mount.source), "rbind", mount.propagation, access)
