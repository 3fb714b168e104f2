"""Reads and writes of single objects at "now" are linearizable, whatever happens to etcd and to the network."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tests.linearizability.checker import disorders, violations
from tests.linearizability.history import Operation, save
from tests.linearizability.runs import recorded_run

# A run of 20,000 operations as it was recorded: the history.jsonl.xz of the slow test below.
RECORDED = Path(__file__).parent / "recorded.jsonl.xz"


def judgement(history: list[Operation]) -> str:
    """Everything that is wrong with a history."""
    return "\n".join([*map(str, violations(history)), *disorders(history)])


@pytest.mark.root
@pytest.mark.parametrize(
    ("operations", "kills", "cuts", "pause"),
    [
        pytest.param(2_000, 1, 1, 300, id="short"),
        pytest.param(20_000, 25, 10, 300, id="long", marks=pytest.mark.slow),
    ],
)
async def test_a_history_through_killed_leaders_and_cut_replicas_is_linearizable(
    operations: int, kills: int, cuts: int, pause: int, tmp_path: Path
) -> None:
    seed = secrets.token_hex(4)
    recording, faults = await recorded_run(operations, seed, tmp_path, kills=kills, cuts=cuts, pause=pause)
    history = recording.operations
    kept = tmp_path / "history.jsonl.xz"
    save(history, kept)
    wrong = judgement(history)
    print(f"seed {seed}: {len(history)} operations, {recording.unknown} of unknown outcome, {faults.counts}, in {kept}")
    assert not wrong, f"{wrong}\n(seed {seed}, the history is in {kept})"
    assert len(history) >= operations
    assert faults.counts == {"kills": kills, "cuts": cuts}
