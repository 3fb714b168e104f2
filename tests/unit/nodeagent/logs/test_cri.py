"""Lines, pieces and what is left for later."""

import time

from nodeagent.logs.cri import MAX_LINE, Clock, encode

STAMP = b"2026-11-22T18:57:14.000000001Z"


def test_every_line_gets_its_prefix() -> None:
    lines, held = encode(b"one\ntwo\n\n", b"stdout", STAMP)
    assert lines == b"".join(b"%s stdout F %s\n" % (STAMP, text) for text in (b"one", b"two", b""))
    assert held == 9


def test_an_incomplete_line_is_left() -> None:
    assert encode(b"one\ntw", b"stderr", STAMP) == (STAMP + b" stderr F one\n", 4)
    assert encode(b"tw", b"stderr", STAMP) == (b"", 0)


def test_an_incomplete_line_is_written_as_a_piece_at_the_end() -> None:
    assert encode(b"one\ntw", b"stdout", STAMP, flush=True) == (
        STAMP + b" stdout F one\n" + STAMP + b" stdout P tw\n",
        6,
    )


def test_a_line_of_exactly_the_limit_is_whole() -> None:
    text = b"x" * MAX_LINE
    assert encode(text, b"stdout", STAMP) == (b"", 0)
    assert encode(text + b"\n", b"stdout", STAMP) == (STAMP + b" stdout F " + text + b"\n", MAX_LINE + 1)


def test_a_longer_line_is_cut_into_pieces_and_ends_with_a_full_one() -> None:
    text = b"x" * (2 * MAX_LINE + 5)
    lines, held = encode(b"before\n" + text + b"\nafter\n", b"stdout", STAMP)
    assert held == len(text) + len("before\n\nafter\n")
    tags = [(line.split(b" ", 3)[2], len(line.split(b" ", 3)[3])) for line in lines.splitlines()]
    assert tags == [(b"F", 6), (b"P", MAX_LINE), (b"P", MAX_LINE), (b"F", 5), (b"F", 5)]


def test_many_short_lines_span_windows_without_loss() -> None:
    data = b"".join(b"line %d\n" % number for number in range(20_000))
    lines, held = encode(data, b"stdout", STAMP)
    assert held == len(data)
    assert lines.replace(STAMP + b" stdout F ", b"") == data


def test_times_are_utc_with_nanoseconds() -> None:
    clock = Clock()
    assert clock.stamp(1_795_373_834_000_000_042) == b"2026-11-22T18:57:14.000000042Z"
    assert clock.stamp(1_795_373_834_999_999_999) == b"2026-11-22T18:57:14.999999999Z"
    assert clock.stamp(time.time_ns()).endswith(b"Z")
