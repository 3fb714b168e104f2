"""What the kernel has to do for service traffic: forward, and show bridged packets to iptables.

Without the second, an answer from a pod of the same node goes over the bridge untranslated, and its client does not
know it. Both are settings of a network namespace: each node's own, also where several share a machine.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

_ROOT: Final = Path("/proc/sys/net")
_FORWARD: Final = "ipv4/ip_forward"
_BRIDGE: Final = "bridge/bridge-nf-call-iptables"
_MODPROBE_SECONDS: Final = 10.0


class SysctlError(Exception):
    """The kernel cannot be set up for services. The message says what to do."""


def ensure() -> None:
    """Switches both on. Blocking."""
    _switch_on(_FORWARD)
    if not (_ROOT / _BRIDGE).exists() and (modprobe := shutil.which("modprobe")):
        subprocess.run([modprobe, "br_netfilter"], capture_output=True, timeout=_MODPROBE_SECONDS, check=False)
    if not (_ROOT / _BRIDGE).exists():
        raise SysctlError(
            "the kernel has no br_netfilter: services would not work between pods of one node; "
            "load it on the host (modprobe br_netfilter) or take a kernel that has it"
        )
    _switch_on(_BRIDGE)


def _switch_on(name: str) -> None:
    path = _ROOT / name
    try:
        if path.read_text().strip() != "1":
            path.write_text("1\n")
    except OSError as error:
        raise SysctlError(f"net.{name.replace('/', '.')} cannot be set to 1: {error}") from error
