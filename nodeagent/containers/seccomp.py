"""The default seccomp profile, from Docker's form (conditions, all architectures) to one container's OCI form.

The profile itself is the distribution's: /usr/share/containers/seccomp.json of golang-github-containers-common, which
knows the kernel's and libseccomp's system calls better than a list of ours would.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

_FOLDERS: Final = ("/etc/containers", "/usr/share/containers", "/usr/local/share/containers")
_SECCOMP_ARCHITECTURES: Final[Mapping[str, str]] = {
    "amd64": "SCMP_ARCH_X86_64",
    "arm64": "SCMP_ARCH_AARCH64",
    "arm": "SCMP_ARCH_ARM",
    "386": "SCMP_ARCH_X86",
    "ppc64le": "SCMP_ARCH_PPC64LE",
    "s390x": "SCMP_ARCH_S390X",
    "riscv64": "SCMP_ARCH_RISCV64",
}
_LEFT_OUT: Final = frozenset({"SCMP_ARCH_X32"})
"""Distributions' kernels do not have x32, and without rules its calls are refused anyway. Every architecture costs each
start of a container, and each exec, 5 ms or more of compiling."""


def find_profile() -> dict[str, Any] | None:
    """The machine's default profile, or None. Beside runc's own `usr` too, where that was unpacked elsewhere."""
    folders = [Path(folder) for folder in _FOLDERS]
    if runc := shutil.which("runc"):
        folders.append(Path(runc).parent.parent / "share/containers")
    for folder in folders:
        try:
            tree = json.loads((folder / "seccomp.json").read_text())
        except FileNotFoundError:
            continue
        if isinstance(tree, dict):
            return tree
    return None


def to_oci(profile: Mapping[str, Any], *, architecture: str, capabilities: Collection[str]) -> dict[str, Any]:
    """The rules of `profile` that hold for a container with `capabilities` on `architecture` (Go's word).

    A profile that is in the OCI form already comes out as it is.
    """
    native = _SECCOMP_ARCHITECTURES.get(architecture, "")
    architectures = list(profile.get("architectures") or ())
    for entry in profile.get("archMap") or ():
        if entry["architecture"] == native:
            architectures = [native, *(name for name in entry.get("subArchitectures") or () if name not in _LEFT_OUT)]
    words = {architecture, *(name.removeprefix("SCMP_ARCH_").lower() for name in architectures[1:])}
    rules = []
    for rule in profile.get("syscalls") or ():
        includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
        if not set(includes.get("caps") or ()) <= set(capabilities):
            continue
        if includes.get("arches") and words.isdisjoint(includes["arches"]):
            continue
        if not set(excludes.get("caps") or ()).isdisjoint(capabilities):
            continue
        if not words.isdisjoint(excludes.get("arches") or ()):
            continue
        rules.append(_rule(rule))
    converted: dict[str, Any] = {
        "defaultAction": profile["defaultAction"],
        "architectures": architectures,
        "syscalls": rules,
    }
    if profile.get("defaultErrnoRet") is not None:
        converted["defaultErrnoRet"] = profile["defaultErrnoRet"]
    if profile.get("flags"):
        converted["flags"] = profile["flags"]
    return converted


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    converted: dict[str, Any] = {"names": rule.get("names") or [rule["name"]], "action": rule["action"]}
    if rule.get("errnoRet") is not None:
        converted["errnoRet"] = rule["errnoRet"]
    if rule.get("args"):
        converted["args"] = rule["args"]
    return converted
