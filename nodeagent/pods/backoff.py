"""How long to wait before something is tried again: a container that ended, and a step that failed.

The numbers are Kubernetes': a container that ended starts again at once, then after 10 s, 20 s, … 300 s, and from the
beginning once it has run for 10 minutes. The delay before an attempt is remembered with the container, so an agent that
has just started goes on where the last one was.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from nodeagent.model import ObservedContainer

FIRST: Final = 10.0
CAP: Final = 300.0
RESET_AFTER: Final = 600.0


def restart_delay(ended: ObservedContainer) -> float:
    """Seconds from the end of `ended` to the start of its successor."""
    if ended.exit is None:
        return 0.0
    if ended.started_at is not None:
        ran = (ended.exit.finished_at - ended.started_at).total_seconds()
        if ran >= RESET_AFTER:
            return 0.0
    if ended.attempt == 0:
        return 0.0
    if ended.backoff_seconds <= 0:
        return FIRST
    return min(ended.backoff_seconds * 2, CAP)


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds before the first retry of a step, doubled after each up to the cap."""

    first: float
    cap: float


# Kubernetes' back-off for images.
IMAGE_PACE: Final = Pace(FIRST, CAP)
# What may be the pod's fault or the node's: quick at first, as for the one, and rare in the end, as for the other.
START_PACE: Final = Pace(1.0, CAP)
# What mends itself: containerd restarts, an address becomes free. Short, since nobody is at fault.
NODE_PACE: Final = Pace(0.25, 10.0)


@dataclass(frozen=True, slots=True)
class Failure:
    """The last failure of a step: what Kubernetes calls it, and when the step is tried again."""

    reason: str
    message: str
    at: datetime
    delay: float
    tries: int = 1

    @property
    def retry_at(self) -> datetime:
        return self.at + timedelta(seconds=self.delay)


def failed(previous: Failure | None, reason: str, message: str, now: datetime, pace: Pace) -> Failure:
    """The failure that follows `previous` (of the same step; None where that had succeeded)."""
    tries = 1 if previous is None else previous.tries + 1
    # 2**20 exceeds every cap; the bound keeps the power small however long a step fails.
    delay = min(pace.first * 2.0 ** min(tries - 1, 20), pace.cap)
    return Failure(reason, message, now, delay, tries)
