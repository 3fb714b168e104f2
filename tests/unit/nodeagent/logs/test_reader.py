"""Reading logs back: joined lines, tails, rotated files, and following."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nodeagent.logs import cri
from nodeagent.logs.logfile import LogFile
from nodeagent.logs.reader import Cursor, Decoder, read_logs

STAMP = "2026-11-22T18:57:14.000000001Z"


def line(text: str, stream: str = "stdout", tag: str = "F") -> bytes:
    return f"{STAMP} {stream} {tag} {text}\n".encode()


def lines(*numbers: int) -> bytes:
    return b"".join(line(f"line {number}") for number in numbers)


def texts(*numbers: int) -> bytes:
    return b"".join(b"line %d\n" % number for number in numbers)


async def read(path: Path, *, tail: int | None = None, timestamps: bool = False) -> bytes:
    blocks = read_logs(path, follow=False, tail=tail, timestamps=timestamps, ended=asyncio.Event())
    return b"".join([block async for block in blocks])


class Follower:
    """Collects what a following reader yields; tests wait for text, not for time."""

    def __init__(self, path: Path, *, tail: int | None = None) -> None:
        self.ended = asyncio.Event()
        self.text = b""
        self._blocks: AsyncIterator[bytes] = read_logs(path, follow=True, tail=tail, timestamps=False, ended=self.ended)

    async def until(self, text: bytes) -> None:
        async with asyncio.timeout(5):
            while self.text != text:
                self.text += await anext(self._blocks)

    async def rest(self) -> bytes:
        async with asyncio.timeout(5):
            return b"".join([block async for block in self._blocks])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "0.log"


async def test_prefixes_are_taken_off_and_streams_stay_in_order(path: Path) -> None:
    path.write_bytes(line("out") + line("err", "stderr") + line("") + line("a F b"))
    assert await read(path) == b"out\nerr\n\na F b\n"


async def test_times_can_be_shown(path: Path) -> None:
    path.write_bytes(line("out") + line("long ", tag="P") + line("line"))
    assert await read(path, timestamps=True) == f"{STAMP} out\n{STAMP} long line\n".encode()


async def test_pieces_are_joined_per_stream(path: Path) -> None:
    path.write_bytes(line("a1", tag="P") + line("b1", "stderr", "P") + line("b2", "stderr") + line("a2") + line("end"))
    assert await read(path) == b"b1b2\na1a2\nend\n"


async def test_a_line_without_an_end_is_shown_without_one(path: Path) -> None:
    path.write_bytes(line("$ ", tag="P"))
    assert await read(path) == b"$ "


def test_a_line_that_never_ends_is_handed_out_in_bounded_blocks() -> None:
    decoder = Decoder(timestamps=True)
    piece = line("x" * cri.MAX_LINE, tag="P")
    blocks = [block for _ in range(200) if (block := decoder.feed(piece))]
    blocks.append(decoder.feed(line("end")))
    assert b"".join(blocks) == f"{STAMP} {'x' * cri.MAX_LINE * 200}end\n".encode()
    assert max(map(len, blocks)) < 2 << 20


async def test_a_torn_line_is_not_used(path: Path) -> None:
    path.write_bytes(line("whole") + b"2026-11-22T18:57:14.0")
    assert await read(path) == b"whole\n"


async def test_a_log_that_is_not_there_is_an_error(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await read(path)


async def test_rotated_files_are_read_first(path: Path) -> None:
    log = LogFile(path, max_size=100, max_files=5)
    for number in range(6):
        log.append(lines(number))
    assert await read(path) == texts(*range(6))


@pytest.mark.parametrize("tail", [0, 1, 2, 3, 4, 5, 6, 100])
async def test_a_tail_counts_lines_across_files(path: Path, tail: int) -> None:
    log = LogFile(path, max_size=100, max_files=5)
    for number in range(6):
        log.append(lines(number))
    assert await read(path, tail=tail) == texts(*range(max(0, 6 - tail), 6))


@pytest.mark.parametrize("tail", [1, 999, 1000, 1001, 9_999, 10_000, 20_000])
async def test_a_tail_is_exact_in_a_large_file(path: Path, tail: int) -> None:
    path.write_bytes(lines(*range(10_000)))
    assert await read(path, tail=tail) == texts(*range(max(0, 10_000 - tail), 10_000))


async def test_a_tail_counts_a_line_in_pieces_once(path: Path) -> None:
    path.write_bytes(line("first") + line("a", tag="P") + line("b", tag="P") + line("c") + line("last"))
    assert await read(path, tail=2) == b"abc\nlast\n"


async def test_a_tail_passes_lines_longer_than_its_blocks(path: Path) -> None:
    path.write_bytes(line("first") + line("x" * 200_000) + line("last"))
    assert await read(path, tail=1) == b"last\n"
    assert await read(path, tail=3) == b"first\n" + b"x" * 200_000 + b"\nlast\n"


async def test_following_goes_on_until_the_end_is_said_and_read(path: Path) -> None:
    log = LogFile(path, max_size=1 << 20, max_files=5)
    log.append(lines(1, 2))
    follower = Follower(path, tail=1)
    await follower.until(texts(2))
    log.append(lines(3))
    await follower.until(texts(2, 3))
    log.append(lines(4))
    follower.ended.set()
    assert await follower.rest() == texts(4)


async def test_following_waits_for_a_file_that_is_not_there_yet(path: Path) -> None:
    follower = Follower(path)
    async with asyncio.TaskGroup() as group:
        group.create_task(follower.until(texts(1)))
        await asyncio.sleep(0)
        LogFile(path, max_size=1 << 20, max_files=5).append(lines(1))
    follower.ended.set()
    assert await follower.rest() == b""


async def test_following_goes_through_rotations(path: Path) -> None:
    log = LogFile(path, max_size=100, max_files=3)
    log.append(lines(0))
    follower = Follower(path)
    for number in range(1, 12):
        await follower.until(texts(*range(number)))
        log.append(lines(number))
    follower.ended.set()
    assert follower.text + await follower.rest() == texts(*range(12))


async def test_following_needs_no_file_at_all(path: Path) -> None:
    follower = Follower(path)
    follower.ended.set()
    assert await follower.rest() == b""


def test_a_reader_that_is_slower_than_rotation_goes_on_with_the_oldest_file_left(path: Path) -> None:
    log = LogFile(path, max_size=1, max_files=3)
    log.append(lines(0))
    cursor = Cursor(path)
    cursor.open()
    assert cursor.read() == lines(0)
    for number in range(1, 10):
        log.append(lines(number))
    rest = b"".join(iter(cursor.read, b""))
    cursor.close()
    assert rest == lines(7, 8, 9)
