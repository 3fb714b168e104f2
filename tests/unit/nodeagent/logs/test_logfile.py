"""Appending, rotation, and what a kill or a full disk leaves behind."""

import errno
import os
from pathlib import Path

import pytest

from nodeagent.logs.logfile import LogFile, rotated


def log_at(path: Path, *, max_size: int = 1 << 20, max_files: int = 5) -> LogFile:
    return LogFile(path, max_size=max_size, max_files=max_files)


def test_batches_are_appended_to_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "pod" / "web.log"
    log_at(path).append(b"one\n")
    log_at(path).append(b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"


def test_a_file_that_would_grow_too_large_is_rotated(tmp_path: Path) -> None:
    path = tmp_path / "web.log"
    log = log_at(path, max_size=10)
    for text in (b"12345678\n", b"abc\n", b"def\n", b"gh\n"):
        log.append(text)
    assert [file.read_bytes() for file in rotated(path)] == [b"12345678\n", b"abc\ndef\n"]
    assert path.read_bytes() == b"gh\n"


@pytest.mark.parametrize("max_files", [1, 2, 3, 5])
def test_only_the_newest_files_are_kept(tmp_path: Path, max_files: int) -> None:
    path = tmp_path / "web.log"
    log = log_at(path, max_size=1, max_files=max_files)
    for number in range(8):
        log.append(b"%d\n" % number)
    kept = [file.read_bytes() for file in (*rotated(path), path)]
    assert kept == [b"%d\n" % number for number in range(8 - max_files, 8)]


def test_other_logs_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    neighbour = tmp_path / "web.logs"
    neighbour.write_text("mine")
    log = log_at(tmp_path / "web.log", max_size=1, max_files=1)
    log.append(b"1\n")
    log.append(b"2\n")
    assert neighbour.read_text() == "mine"


def test_a_line_torn_by_a_kill_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "web.log"
    path.write_bytes(b"whole\n" + b"x" * 20_000)
    log_at(path).append(b"next\n")
    assert path.read_bytes() == b"whole\nnext\n"


def test_a_file_of_one_torn_line_becomes_empty(tmp_path: Path) -> None:
    path = tmp_path / "web.log"
    path.write_bytes(b"tor")
    log_at(path).append(b"next\n")
    assert path.read_bytes() == b"next\n"


def test_a_batch_that_cannot_be_written_whole_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "web.log"
    log = log_at(path)
    log.append(b"one\n")
    write = os.write
    room = [2, 0]

    def write_on_a_full_disk(descriptor: int, data: bytes) -> int:
        count = room.pop(0)
        if not count:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data[:count])

    monkeypatch.setattr(os, "write", write_on_a_full_disk)
    with pytest.raises(OSError):
        log.append(b"two\n")
    monkeypatch.undo()
    assert path.read_bytes() == b"one\n"
    log.append(b"three\n")
    assert path.read_bytes() == b"one\nthree\n"
