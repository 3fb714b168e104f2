"""SIGKILL in the middle of ADD and DEL, at many points: what is left is found and undone."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.cni.hosts import Host, needs_root

pytestmark = [pytest.mark.root, needs_root]


def kills(node: Host, pod: Host, state_dir: Path, verb: str, step: int) -> int:
    """Runs `killed.py` in the node; how often it killed."""
    command = [
        sys.executable,
        "-m",
        "tests.integration.cni.killed",
        verb,
        str(state_dir),
        str(pod.path),
        "1",
        str(step),
    ]
    done = node.run(lambda: subprocess.run(command, capture_output=True, text=True, timeout=600, check=False))
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_a_kill_in_the_middle_leaves_nothing_that_the_next_call_does_not_undo(
    node: Host, hosts: Callable[[], Host], state_dir: Path, verb: str
) -> None:
    assert kills(node, hosts(), state_dir, verb, step=23) > 10


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_a_kill_at_any_line_leaves_nothing_that_the_next_call_does_not_undo(
    node: Host, hosts: Callable[[], Host], state_dir: Path, verb: str
) -> None:
    assert kills(node, hosts(), state_dir, verb, step=1) > 200
