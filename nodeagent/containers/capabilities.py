"""Linux capabilities: their names, what containers get by default, and what a securityContext makes of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from nodeagent.containers.errors import ContainerError
from podwire import v1

# In the order of their numbers (linux/capability.h).
NAMES: Final = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
    "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip
DEFAULT: Final = frozenset({
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
    "CAP_AUDIT_WRITE",
})  # fmt: skip
"""What Docker and containerd give a container."""


def available(status: str | None = None) -> frozenset[str]:
    """The capabilities that a process started from here can have: some machines withhold CAP_SYS_RESOURCE, say."""
    text = Path("/proc/self/status").read_text() if status is None else status
    (mask,) = (int(line.split()[1], 16) for line in text.splitlines() if line.startswith("CapBnd:"))
    return frozenset(name for number, name in enumerate(NAMES) if mask >> number & 1)


def granted(context: v1.SecurityContext, offered: frozenset[str]) -> tuple[str, ...]:
    """The capabilities of a container with this security context, sorted. Raises ContainerError.

    `ALL` means every one; what is added counts more than what is dropped, as in Kubernetes' runtimes.
    """
    if context.privileged:
        return tuple(sorted(offered))
    add, drop = (_names(names) for names in (context.capabilities.add, context.capabilities.drop))
    capabilities = set() if "CAP_ALL" in drop else DEFAULT & offered
    if "CAP_ALL" in add:
        return tuple(sorted(offered - (drop - {"CAP_ALL"})))
    if unknown := sorted((add | drop) - {"CAP_ALL"} - frozenset(NAMES)):
        raise _config_error(f"there is no capability {', '.join(unknown)}")
    if withheld := sorted(add - offered):
        raise _config_error(f"this node has not the capability {', '.join(withheld)} to give")
    return tuple(sorted(capabilities - drop | add))


def _names(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name.upper() if name.upper().startswith("CAP_") else f"CAP_{name.upper()}" for name in names)


def _config_error(message: str) -> ContainerError:
    return ContainerError("CreateContainerConfigError", message)
