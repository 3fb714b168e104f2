"""Names and labels: the agent's memory in containerd."""

from datetime import UTC, datetime

from nodeagent import labels
from nodeagent.model import Exit, PodUid

UID = PodUid("6f1f2a58-1b3e-4b5d-9c55-3f8f6f1f2a58")


def test_names_are_short_enough_for_containerd_and_lead_back_to_the_pod() -> None:
    container = labels.container_id(UID, "x" * 253, 123456, "a1b2c3d4")
    sandbox = labels.sandbox_id(UID, 123456, "a1b2c3d4")
    assert len(container) <= 76 and len(sandbox) <= 76
    assert labels.pod_of_container(container) == UID
    assert labels.pod_of_sandbox(sandbox) == UID


def test_containers_of_a_pod_have_different_names() -> None:
    names = {
        labels.container_id(UID, name, attempt, nonce)
        for name in ("a", "b")
        for attempt in (0, 1)
        for nonce in ("x", "y")
    }
    assert len(names) == 8


def test_an_exit_comes_back_as_it_was_written_down() -> None:
    exit = Exit(137, datetime(2026, 11, 22, 12, 0, 0, 123456, UTC), "OOMKilled", "too much")
    assert labels.exit_of(labels.exit_labels(exit)) == exit
    assert labels.exit_of({}) is None
