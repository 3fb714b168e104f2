"""From FIFO to file, with real FIFOs and no process: what is taken, kept, dropped and said."""

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent.logs.fifo import NotAFifo
from nodeagent.logs.logfile import LogFile
from nodeagent.logs.moving import Mover
from nodeagent.logs.state import Attachment, BadRequest, StateDir

NOW = 1_795_373_834_000_000_042
OPEN = Path("/proc/self/fd")
STAMP = "2026-11-22T18:57:14.000000042Z"


class Bench:
    """A mover with one container, driven by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.attachment = Attachment("c1", f"{folder}/out", f"{folder}/err", f"{folder}/c1.log")
        self.log = folder / "c1.log"
        self.start()

    def start(self) -> None:
        self.poller = select.epoll()
        state = StateDir(self.folder / "state")
        self.mover = Mover(state=state, poller=self.poller, max_size=1 << 30, max_files=5, now_ns=lambda: NOW)

    def kill(self) -> None:
        """As SIGKILL does: descriptors are closed, nothing else happens."""
        for container in self.mover._containers.values():
            for stream in container.streams:
                os.close(stream.descriptor)
        self.poller.close()

    def write(self, data: bytes, stream: str = "out") -> None:
        descriptor = os.open(self.folder / stream, os.O_WRONLY | os.O_NONBLOCK)
        written = os.write(descriptor, data)
        os.close(descriptor)
        assert written == len(data)

    def turn(self) -> int:
        """One turn of the loop; returns how many descriptors woke it."""
        events = self.poller.poll(0)
        for descriptor, _ in events:
            self.mover.wake(descriptor)
        while self.mover.has_ready:
            self.mover.move()
        return len(events)

    @property
    def lines(self) -> list[str]:
        return self.log.read_text().replace(f"{STAMP} ", "").splitlines()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    bench.mover.attach(bench.attachment)
    yield bench
    bench.mover.close()
    bench.poller.close()


def test_both_streams_go_into_one_file(bench: Bench) -> None:
    bench.write(b"hello\n")
    bench.write(b"oops\n", "err")
    bench.turn()
    assert bench.lines == ["stdout F hello", "stderr F oops"]


def test_an_incomplete_line_waits_in_the_pipe_and_wakes_nobody(bench: Bench) -> None:
    bench.write(b"one\ntw")
    bench.turn()
    assert bench.lines == ["stdout F one"]
    assert bench.turn() == 0
    bench.write(b"o\n")
    bench.turn()
    assert bench.lines == ["stdout F one", "stdout F two"]


def test_a_pipe_full_of_tiny_writes_is_emptied_though_no_line_is_complete(bench: Bench) -> None:
    # A spliced byte takes a page's place in the pipe: a writer would block for ever.
    reader, writer = os.pipe()
    descriptor = os.open(bench.folder / "out", os.O_WRONLY | os.O_NONBLOCK)
    count = 0
    while select.select([], [descriptor], [], 0)[1]:
        os.write(writer, b"x")
        count += os.splice(reader, descriptor, 1)
    for end in (reader, writer, descriptor):
        os.close(end)
    bench.turn()
    assert bench.lines == [f"stdout P {'x' * count}"]


def test_detaching_writes_what_is_left_and_forgets(bench: Bench) -> None:
    bench.write(b"one\nprompt> ")
    bench.mover.detach("c1")
    assert bench.lines == ["stdout F one", "stdout P prompt> "]
    assert bench.mover.attached() == []
    bench.mover.detach("c1")


def test_detaching_cuts_no_line_between_two_batches(bench: Bench) -> None:
    texts = [f"line {number}" for number in range(40_000)]
    bench.write("".join(f"{text}\n" for text in texts).encode())
    bench.mover.detach("c1")
    assert bench.lines == [f"stdout F {text}" for text in texts]


def test_attaching_again_changes_nothing_and_other_paths_are_refused(bench: Bench) -> None:
    bench.mover.attach(bench.attachment)
    with pytest.raises(BadRequest, match="other paths"):
        bench.mover.attach(bench.attachment._replace(log=f"{bench.folder}/other.log"))
    assert len(bench.mover.attached()) == 1


def test_new_pipes_at_the_old_paths_replace_the_old_ones(bench: Bench) -> None:
    bench.write(b"old\n")
    for name in ("out", "err"):
        (bench.folder / name).unlink()
        os.mkfifo(bench.folder / name)
    bench.mover.attach(bench.attachment)
    bench.write(b"new\n")
    bench.turn()
    assert bench.lines == ["stdout F old", "stdout F new"]
    assert len(bench.mover.attached()) == 1


def test_an_attach_that_fails_leaves_nothing_open(bench: Bench) -> None:
    (bench.folder / "file").write_text("not a pipe")
    before = len(list(OPEN.iterdir()))
    with pytest.raises(NotAFifo):
        bench.mover.attach(bench.attachment._replace(id="c2", stderr=f"{bench.folder}/file"))
    with pytest.raises(OSError):
        bench.mover.attach(bench.attachment._replace(id="c2", log=f"{bench.folder}/file/c2.log"))
    assert len(list(OPEN.iterdir())) == before
    assert [tree["id"] for tree in bench.mover.attached()] == ["c1"]


def test_a_killed_mover_leaves_everything_to_the_next(bench: Bench) -> None:
    # The shim of a running container has its FIFO open as well; that keeps what is in it.
    shim = os.open(bench.folder / "out", os.O_RDWR)
    bench.write(b"one\n")
    bench.turn()
    bench.write(b"two\nthr")
    bench.kill()
    bench.write(b"ee\n")
    bench.start()
    bench.mover.restore()
    bench.turn()
    os.close(shim)
    assert bench.lines == ["stdout F one", "stdout F two", "stdout F three"]


def test_a_container_whose_pipes_are_gone_is_forgotten(bench: Bench) -> None:
    bench.kill()
    (bench.folder / "out").unlink()
    for _ in range(2):
        bench.start()
        bench.mover.restore()
        assert bench.mover.attached() == []


def test_output_waits_while_the_disk_is_full(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as full:
        full.setattr(LogFile, "append", _no_space)
        bench.write(b"one\n")
        bench.turn()
        assert bench.mover.has_stuck
    bench.mover.wake_stuck()
    bench.turn()
    assert bench.lines == ["stdout F one"]
    assert not bench.mover.has_stuck


def test_output_is_dropped_and_counted_when_a_full_disk_would_block_its_writer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = b"x" * 99 + b"\n"
    with monkeypatch.context() as full:
        full.setattr(LogFile, "append", _no_space)
        for _ in range(40):
            bench.write(text * 1000)
            bench.turn()
    bench.mover.wake_stuck()
    bench.turn()
    bench.write(b"after\n")
    bench.turn()
    notice, *rest, last = bench.lines
    dropped = int(notice.split()[3])
    assert notice == (
        f"stderr F podwire-logs: {dropped} lines ({dropped * 100} bytes) of stdout were dropped: "
        "No space left on device"
    )
    assert dropped + len(rest) == 40_000
    assert last == "stdout F after"


def _no_space(self: LogFile, lines: bytes) -> None:
    raise OSError(28, "No space left on device")
