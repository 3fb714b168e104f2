"""What a process has used, from /proc."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_MIB: Final = 1024 * 1024


def cpu_seconds(pid: int) -> float:
    """User and system time of all its threads so far."""
    # The name, in parentheses, may have blanks; the fields after it are numbered from 3 in proc(5).
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_mib(pid: int) -> float:
    """Its memory that is in RAM now."""
    return _status(pid, "VmRSS") / _MIB


def peak_resident_mib(pid: int) -> float:
    """The most it ever had."""
    return _status(pid, "VmHWM") / _MIB


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    raise LookupError(f"/proc/{pid}/status has no {name}")
