"""How long a node without a session is still believed."""

from __future__ import annotations

import pytest

from controlplane.controllers.node_readiness import GRACE, grace_left

LONG_AGO = 0.0
NOW = 1000.0


@pytest.mark.parametrize(
    ("term_began", "watching_since", "known_since", "left"),
    [
        pytest.param(LONG_AGO, LONG_AGO, LONG_AGO, 0.0, id="watched all the time: not at all"),
        pytest.param(NOW - 4, NOW - 3.9, LONG_AGO, GRACE - 3.9, id="after an election"),
        pytest.param(LONG_AGO, NOW - 1, LONG_AGO, GRACE - 1, id="after the watch was interrupted"),
        pytest.param(LONG_AGO, None, LONG_AGO, GRACE, id="while the watch is interrupted"),
        pytest.param(LONG_AGO, LONG_AGO, NOW - 2, GRACE - 2, id="when it was just registered"),
        pytest.param(LONG_AGO, NOW - GRACE - 1, LONG_AGO, 0.0, id="the grace is over"),
    ],
)
def test_a_node_without_a_session_is_believed(
    term_began: float, watching_since: float | None, known_since: float, left: float
) -> None:
    assert grace_left(
        NOW, term_began=term_began, watching_since=watching_since, known_since=known_since
    ) == pytest.approx(left)
