"""Times as kubectl shows and takes them: `5m30s`, `x771 over 42m`, `--timeout=90s`."""

from __future__ import annotations

import re
import time
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from podctl.failures import UsageError

UNKNOWN: Final = "<unknown>"
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def human_duration(seconds: float) -> str:
    """The rougher, the longer: k8s.io/apimachinery/pkg/util/duration.HumanDuration."""
    whole = int(seconds)
    minutes, hours = whole // 60, whole // 3600
    days, years = hours // 24, hours // (24 * 365)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 24 * 8:
        return _two(days, "d", hours % 24, "h")
    if days < 365 * 2:
        return f"{days}d"
    if days < 365 * 8:
        return _two(years, "y", days % 365, "d")
    return f"{years}y"


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"


def is_set(moment: Timestamp) -> bool:
    return bool(moment.seconds or moment.nanos)


def age(moment: Timestamp, now: float) -> str:
    """How long `moment` is ago; `now` is in seconds since 1970."""
    return human_duration(now - moment.ToNanoseconds() / 1e9) if is_set(moment) else UNKNOWN


def date(moment: Timestamp) -> str:
    """As `describe` prints it: `Sun, 22 Nov 2026 18:57:14 +0000`, in this machine's time zone."""
    return time.strftime("%a, %d %b %Y %H:%M:%S %z", time.localtime(moment.seconds)) if is_set(moment) else UNKNOWN


def parse_duration(text: str) -> float:
    """Seconds of `90s`, `1m30s`, `2h`, `0`; negative with a minus. Raises UsageError."""
    digits = text.removeprefix("-")
    if digits == "0":
        return 0.0
    if not digits or _PART.sub("", digits):
        raise UsageError(f"{text!r} is not a duration such as 30s, 1m30s or 2h")
    seconds = sum(float(amount) * _SECONDS[unit] for amount, unit in _PART.findall(digits))
    return -seconds if text.startswith("-") else seconds
