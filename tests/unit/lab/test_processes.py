import os
import subprocess
from pathlib import Path

import pytest

from lab import processes
from lab.processes import Process

STAT = "4711 (sh (x) y) S 1 4700 4699 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 987654 0 0\n"


def test_a_process_is_read_from_its_line_also_with_blanks_and_parentheses_in_its_name() -> None:
    assert Process.parse(STAT) == Process(pid=4711, group=4700, started=987654, zombie=False)


def test_a_pid_file_that_was_never_written_tells_of_no_process(tmp_path: Path) -> None:
    assert processes.recorded(tmp_path / "none.pid") is None


def test_a_pid_file_that_was_cut_off_tells_of_no_process(tmp_path: Path) -> None:
    file = tmp_path / "cut.pid"
    file.write_text("")
    assert processes.recorded(file) is None


def test_a_pid_that_another_process_has_now_is_not_running(tmp_path: Path) -> None:
    file = tmp_path / "recycled.pid"
    file.write_text(STAT.replace("4711", str(os.getpid())))
    assert processes.recorded(file) is not None
    assert processes.running(file) is None


def test_a_pid_that_another_process_has_now_is_not_killed() -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        now = Process.now(stranger.pid)
        assert now is not None
        recycled = Process(now.pid, now.group, now.started - 1, zombie=False)
        processes.kill([recycled])
        assert processes.terminate(recycled, grace=0.0)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_process_that_ignores_sigterm_is_reported_as_not_ended() -> None:
    stubborn = subprocess.Popen(["sh", "-c", "trap '' TERM; echo ready; exec sleep 60"], stdout=subprocess.PIPE)
    try:
        assert stubborn.stdout is not None
        assert stubborn.stdout.readline() == b"ready\n"
        process = Process.now(stubborn.pid)
        assert process is not None
        assert not processes.terminate(process, grace=0.0)
    finally:
        stubborn.kill()
        stubborn.communicate()


def test_a_zombie_is_not_running() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    try:
        assert Process.now(child.pid) is None
    finally:
        child.wait()


@pytest.mark.parametrize("pid", [2**22 + 1])
def test_a_pid_that_nobody_has_is_not_running(pid: int) -> None:
    assert Process.now(pid) is None
