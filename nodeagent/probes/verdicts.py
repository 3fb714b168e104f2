"""What a row of probe results amounts to, and when the next probe is due: pure functions.

The rules are Kubernetes' (pkg/kubelet/prober/worker.go): a verdict changes after successThreshold or failureThreshold
equal results in a row; an unknown result (the question could not be put) changes nothing and breaks no row; readiness
begins as failure, liveness as success.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from podwire import v1

DEFAULT_PERIOD: Final = 10
DEFAULT_TIMEOUT: Final = 1
DEFAULT_SUCCESS_THRESHOLD: Final = 1
DEFAULT_FAILURE_THRESHOLD: Final = 3

# Kubernetes sees a started container at its next look, up to a second later, and only then probes it. A liveness probe
# with failureThreshold 1 must not be stricter here.
LIVENESS_PATIENCE: Final = 1.0
# The first of the looks at a container that has just started (see `looks`); each waits twice as long as the one before.
FIRST_LOOK: Final = 0.1


class Kind(StrEnum):
    LIVENESS = "Liveness"
    READINESS = "Readiness"


class Result(StrEnum):
    SUCCESS = "success"
    FAILURE = "failure"
    # The probe itself failed: containerd away, the agent short of something.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one probe found. A warning is worth an event although the probe succeeded."""

    result: Result
    message: str = ""
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What holds now, and the row of equal results that may change it."""

    holds: Result
    last: Result
    row: int = 0


def initial(kind: Kind, *, known_ready: bool = False) -> Verdict:
    """The verdict before any result. `known_ready`: the container was ready when an earlier agent last looked."""
    good = kind is Kind.LIVENESS or known_ready
    result = Result.SUCCESS if good else Result.FAILURE
    return Verdict(result, result)


def advance(verdict: Verdict, result: Result, probe: v1.Probe) -> Verdict:
    if result is Result.UNKNOWN:
        return verdict
    row = verdict.row + 1 if result is verdict.last else 1
    verdict = replace(verdict, last=result, row=row)
    if result is Result.SUCCESS:
        needed = probe.success_threshold or DEFAULT_SUCCESS_THRESHOLD
    else:
        needed = probe.failure_threshold or DEFAULT_FAILURE_THRESHOLD
    return replace(verdict, holds=result) if row >= needed else verdict


def period(probe: v1.Probe) -> float:
    return float(probe.period_seconds or DEFAULT_PERIOD)


def timeout(probe: v1.Probe) -> float:
    return float(probe.timeout_seconds or DEFAULT_TIMEOUT)


def first_delay(kind: Kind, probe: v1.Probe, age: float) -> float:
    """Seconds until the first probe of a container that started `age` seconds ago."""
    delay = float(probe.initial_delay_seconds)
    if kind is Kind.LIVENESS:
        delay = max(delay, LIVENESS_PATIENCE)
    return max(delay - age, 0.0)


def looks(probe: v1.Probe) -> Iterator[float]:
    """Waits between early looks at a container that has just started, until its first regular probe is due.

    A server that needs 50 ms to listen would otherwise be found ready a whole period later. A look counts only if it
    succeeds: it makes no event and no row of failures, so nothing that users see of failing probes changes.
    """
    left = period(probe)
    wait = FIRST_LOOK
    while wait < left:
        yield wait
        left -= wait
        wait *= 2
    yield left
