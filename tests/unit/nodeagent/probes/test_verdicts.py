"""Rows of results, and what holds after them."""

from __future__ import annotations

import pytest

from nodeagent.probes.verdicts import Kind, Result, advance, first_delay, initial, looks
from podwire import v1

RESULTS = {"s": Result.SUCCESS, "f": Result.FAILURE, "u": Result.UNKNOWN}


# After each result of the row: what holds.
@pytest.mark.parametrize(
    ("kind", "success", "failure", "row", "holds"),
    [
        pytest.param(Kind.READINESS, 1, 3, "s", "s", id="readiness begins as failure and one success is enough"),
        pytest.param(Kind.READINESS, 3, 3, "sssffs", "ffssss", id="successThreshold in a row"),
        pytest.param(Kind.READINESS, 2, 3, "sfsfss", "fffffs", id="a failure breaks the row"),
        pytest.param(Kind.LIVENESS, 1, 3, "ffsfff", "sssssf", id="liveness begins as success, three failures in a row"),
        pytest.param(Kind.LIVENESS, 1, 1, "f", "f", id="failureThreshold of one"),
        pytest.param(Kind.LIVENESS, 1, 3, "ffuuf", "ssssf", id="an unknown result neither counts nor breaks the row"),
        pytest.param(Kind.READINESS, 1, 1, "uu", "ff", id="unknown alone changes nothing"),
    ],
)
def test_what_holds_after_a_row(kind: Kind, success: int, failure: int, row: str, holds: str) -> None:
    probe = v1.Probe(success_threshold=success, failure_threshold=failure)
    verdict = initial(kind)
    seen = []
    for letter in row:
        verdict = advance(verdict, RESULTS[letter], probe)
        seen.append(verdict.holds)
    assert seen == [RESULTS[letter] for letter in holds]


def test_defaults_are_kubernetes() -> None:
    verdict = initial(Kind.LIVENESS)
    for _ in range(2):
        verdict = advance(verdict, Result.FAILURE, v1.Probe())
        assert verdict.holds is Result.SUCCESS
    assert advance(verdict, Result.FAILURE, v1.Probe()).holds is Result.FAILURE


def test_what_an_agent_before_reported_holds_until_probes_say_otherwise() -> None:
    verdict = initial(Kind.READINESS, known_ready=True)
    assert verdict.holds is Result.SUCCESS
    verdict = advance(verdict, Result.FAILURE, v1.Probe(failure_threshold=2))
    assert verdict.holds is Result.SUCCESS
    assert advance(verdict, Result.FAILURE, v1.Probe(failure_threshold=2)).holds is Result.FAILURE


def test_the_first_probe_comes_when_the_container_is_old_enough() -> None:
    probe = v1.Probe(initial_delay_seconds=5)
    assert first_delay(Kind.READINESS, probe, age=0) == 5
    assert first_delay(Kind.READINESS, probe, age=3) == 2
    assert first_delay(Kind.READINESS, probe, age=60) == 0
    assert first_delay(Kind.READINESS, v1.Probe(), age=0) == 0
    assert first_delay(Kind.LIVENESS, v1.Probe(), age=0) == 1


def test_looks_double_and_end_when_the_next_regular_probe_is_due() -> None:
    waits = list(looks(v1.Probe(period_seconds=10)))
    assert waits[:3] == [0.1, 0.2, 0.4]
    assert sum(waits) == pytest.approx(10)
