"""Reads and writes of single objects at "now" are linearizable, whatever happens to etcd and to the network."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import pytest

from tests.integration.controlplane.etcd_server import EtcdServer
from tests.integration.controlplane.network import wire_to
from tests.integration.controlplane.replica import running_api
from tests.linearizability.checker import disorders, violations
from tests.linearizability.clients import Recording, Worker
from tests.linearizability.history import Operation, Outcome, Verb, load, save
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
    # Else the answers would show little.
    assert recording.unknown < len(history) / 10
    assert faults.counts == {"kills": kills, "cuts": cuts}


async def test_a_replica_that_reads_its_cache_without_proof_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    etcd = EtcdServer(tmp_path)
    await etcd.start()
    try:
        async with (
            running_api(etcd.url) as sound,
            wire_to(etcd.url) as wire,
            running_api(wire.url) as unsound,
        ):
            monkeypatch.setattr(unsound.replica.cache, "wait_fresh", _without_proof)
            recording = Recording()
            workers = [Worker(number, sound.client, recording, "writer") for number in (0, 1)]
            workers += [Worker(number, unsound.client, recording, "reader", {Verb.GET: 1}) for number in (2, 3)]
            enough = asyncio.Event()
            async with asyncio.timeout(60), asyncio.TaskGroup() as owner:
                for worker in workers:
                    owner.create_task(worker.run(enough.is_set, 0))
                await recording.wait_writes(50)
                wire.cut()
                await recording.wait_writes(50)
                enough.set()
    finally:
        await etcd.kill()
    assert violations(recording.operations)
    # What the sound one said is right without what the other did.
    assert not violations(operation for operation in recording.operations if operation.client in (0, 1))


async def _without_proof() -> None:
    pass


def test_the_recorded_run_is_linearizable() -> None:
    history = load(RECORDED)
    assert not judgement(history)
    assert len(history) >= 20_000
    assert {operation.client % 2 for operation in history} == {0, 1}
    assert any(operation.outcome is Outcome.UNKNOWN for operation in history)
