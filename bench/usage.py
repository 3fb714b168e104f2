"""What a process and its children have used, from /proc: a server may be a supervisor and several of the same."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_MIB: Final = 1024 * 1024


def cpu_seconds(pid: int) -> float:
    """User and system time of all their threads so far."""
    return sum(map(_cpu_seconds, _with_children(pid)))


def _cpu_seconds(pid: int) -> float:
    # The name, in parentheses, may have blanks; the fields after it are numbered from 3 in proc(5).
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_mib(pid: int) -> float:
    """Their memory that is in RAM now; what they share counts for each."""
    return sum(_status(each, "VmRSS") for each in _with_children(pid)) / _MIB


def peak_resident_mib(pid: int) -> float:
    """The most that each ever had."""
    return sum(_status(each, "VmHWM") for each in _with_children(pid)) / _MIB


def _with_children(pid: int) -> list[int]:
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    raise LookupError(f"/proc/{pid}/status has no {name}")
