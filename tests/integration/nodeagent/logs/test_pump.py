"""The pump as a process: its socket, SIGKILL in the middle of output, a full disk, many containers."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nodeagent.logs.logfile import rotated


class PumpProcess:
    """`podwire-logs` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        socket_path = self.folder / "pump.sock"
        command = [sys.executable, "-m", "nodeagent.logs.pump", "--socket", str(socket_path)]
        command += ["--state-dir", str(self.folder / "state"), *options]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.settimeout(10)
        eventually(lambda: self.connection.connect_ex(str(socket_path)) == 0)
        self.file = self.connection.makefile("rwb")

    def end(self, number: int) -> int:
        assert self.process is not None
        self.file.close()
        self.connection.close()
        self.process.send_signal(number)
        status = self.process.wait(10)
        self.process = None
        return status

    def send(self, line: bytes) -> dict[str, Any]:
        self.file.write(line + b"\n")
        self.file.flush()
        answer: dict[str, Any] = json.loads(self.file.readline())
        return answer

    def ask(self, **request: str) -> dict[str, Any]:
        return self.send(json.dumps(request).encode())

    def attach(self, name: str = "c1", *, log: Path | None = None) -> Path:
        log = log or self.folder / "logs" / f"{name}.log"
        paths = {"stdout": str(self.folder / f"{name}.out"), "stderr": str(self.folder / f"{name}.err")}
        assert self.ask(op="attach", id=name, log=str(log), **paths) == {"ok": True}
        return log

    def detach(self, name: str = "c1") -> None:
        assert self.ask(op="detach", id=name) == {"ok": True}


def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.005)


def contents(log: Path) -> list[str]:
    """What the container wrote, from all files of a log."""
    files = [*rotated(log), log]
    return [line.split(" ", 3)[3] for file in files for line in file.read_text().splitlines()]


@pytest.fixture
def pump(tmp_path: Path) -> Iterator[PumpProcess]:
    pump = PumpProcess(tmp_path)
    yield pump
    if pump.process is not None:
        pump.end(signal.SIGTERM)


def test_output_is_in_the_log_when_detach_is_answered(pump: PumpProcess) -> None:
    pump.start()
    log = pump.attach()
    script = 'import sys; print("out"); print("err", file=sys.stderr); print("no end", end="")'
    with (pump.folder / "c1.out").open("wb") as out, (pump.folder / "c1.err").open("wb") as err:
        subprocess.run([sys.executable, "-c", script], stdout=out, stderr=err, check=True)
    pump.detach()
    assert sorted(contents(log)) == ["err", "no end", "out"]
    assert " stdout P no end\n" in log.read_text()
    assert pump.ask(op="list") == {"ok": True, "containers": []}


@pytest.mark.parametrize(
    ("request_line", "error"),
    [
        (b"{", "a request is a JSON object on one line"),
        (b"[]", "a request is a JSON object on one line"),
        (b'{"op": "frob"}', "unknown op 'frob'"),
        (b'{"op": "attach", "id": "x"}', "stdout is missing"),
        (b'{"op": "detach"}', "id must be"),
    ],
)
def test_bad_requests_are_answered_and_harm_nobody(pump: PumpProcess, request_line: bytes, error: str) -> None:
    pump.start()
    answer = pump.send(request_line)
    assert not answer["ok"]
    assert error in answer["error"]
    pump.attach()


def test_a_client_that_goes_away_in_the_middle_of_a_request_harms_nobody(pump: PumpProcess) -> None:
    pump.start()
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(str(pump.folder / "pump.sock"))
            other.send(b'{"op": "li')
    pump.attach()


def test_a_second_pump_on_the_same_state_refuses_to_start(pump: PumpProcess) -> None:
    pump.start()
    command = [sys.executable, "-m", "nodeagent.logs.pump", "--socket", str(pump.folder / "other.sock")]
    second = subprocess.run([*command, "--state-dir", str(pump.folder / "state")], capture_output=True, check=False)
    assert second.returncode == 1
    assert b"another podwire-logs attends this state directory" in second.stderr


def test_no_line_is_lost_when_the_pump_is_killed_again_and_again(pump: PumpProcess) -> None:
    # Without rotation, whose moment without a file the test would have to look past.
    pump.start("--max-size", "1Gi")
    log = pump.attach()
    total, kills = 200_000, 8
    # Held open as the shim of a container does.
    descriptor = os.open(pump.folder / "c1.out", os.O_RDWR)
    killed = 0

    def write() -> None:
        for first in range(0, total, 100):
            os.write(descriptor, b"".join(b"line %d\n" % number for number in range(first, first + 100)))

    writer = threading.Thread(target=write)
    writer.start()
    while killed < kills:
        size = log.stat().st_size
        eventually(lambda size=size: log.stat().st_size > size or not writer.is_alive())  # type: ignore[misc]
        pump.end(signal.SIGKILL)
        killed += 1
        pump.start("--max-size", "1Gi")
    writer.join(30)
    assert not writer.is_alive()
    pump.detach()
    os.close(descriptor)

    texts = contents(log)
    assert set(texts) == {f"line {number}" for number in range(total)}
    numbers = [int(text.split()[1]) for text in texts]
    # At least once: a kill between the write and its taking repeats one batch, in order.
    steps_back = sum(1 for before, after in itertools.pairwise(numbers) if after != before + 1)
    assert steps_back <= kills


def test_a_stopped_pump_leaves_incomplete_lines_to_the_next(pump: PumpProcess) -> None:
    pump.start()
    log = pump.attach()
    descriptor = os.open(pump.folder / "c1.out", os.O_RDWR)
    os.write(descriptor, b"one\ntw")
    assert pump.end(signal.SIGTERM) == 0
    assert contents(log) == ["one"]
    os.write(descriptor, b"o\n")
    pump.start()
    eventually(lambda: contents(log) == ["one", "two"])
    os.close(descriptor)


def test_logs_are_rotated_and_no_line_is_lost(pump: PumpProcess) -> None:
    pump.start("--max-size", "64Ki", "--max-files", "4")
    log = pump.attach()
    with (pump.folder / "c1.out").open("wb") as out:
        for number in range(5_000):
            out.write(b"line %d\n" % number)
    pump.detach()
    assert len(rotated(log)) <= 3
    numbers = [int(text.split()[1]) for text in contents(log)]
    assert numbers == list(range(numbers[0], 5_000))


def test_a_pump_survives_a_full_disk_and_says_what_is_missing(pump: PumpProcess) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: mounts a small tmpfs")
    small = pump.folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)], check=True)
    try:
        pump.start()
        log = pump.attach(log=small / "c1.log")
        filler = small / "filler"
        with pytest.raises(OSError):
            filler.write_bytes(b"x" * (8 << 20))
        text = b"x" * 999 + b"\n"
        with (pump.folder / "c1.out").open("wb", buffering=0) as out:
            # Twice what the pipe holds: the writer must not block.
            for _ in range(2_000):
                out.write(text)
            filler.unlink()
            eventually(lambda: (out.write(b"again\n"), "dropped: No space left on device" in log.read_text())[1])
        pump.detach()
        assert contents(log)[-1] == "again"
    finally:
        if pump.process is not None:
            pump.end(signal.SIGTERM)
        subprocess.run(["umount", str(small)], check=True)


def test_a_thousand_containers_need_little_memory(pump: PumpProcess) -> None:
    pump.start()
    logs = [pump.attach(f"c{number}") for number in range(1_000)]
    for number in range(1_000):
        with (pump.folder / f"c{number}.out").open("wb") as out:
            out.write(b"hello\n" * 100)
    eventually(lambda: all(log.stat().st_size > 100 for log in logs))
    assert pump.process is not None
    status = Path(f"/proc/{pump.process.pid}/status").read_text()
    resident = int(status.split("VmRSS:")[1].split()[0])
    assert resident < 40_000, f"{resident} KiB"
    assert len(pump.ask(op="list")["containers"]) == 1_000
