"""What the load generators take for a success, and for a failure."""

from __future__ import annotations

import pytest

from bench.api import COUNTER, LISTED_POD_BYTES, sized_pod
from bench.closed_loop import continue_of
from bench.http2 import DATA, END_STREAM, HEADERS, Failed, Frames, Part, check_trailers, frame, message
from bench.rest import Answers
from bench.watchers import Deliveries
from podwire import v1


def test_an_answer_with_another_status_than_ok_is_a_failure() -> None:
    check_trailers(b"\x00\x0bgrpc-status\x010")
    with pytest.raises(Failed):
        check_trailers(b"\x00\x0bgrpc-status\x0213\x00\x0cgrpc-message\x04oops")


def test_the_next_page_is_found_in_the_metadata_of_a_list() -> None:
    page = v1.PodList(metadata=v1.ListMeta(resource_version="7", remaining_item_count=300, epoch="e"))
    assert continue_of(page.SerializeToString()) == b""
    setattr(page.metadata, "continue", "t" * 200)
    assert continue_of(page.SerializeToString()) == b"t" * 200


def test_a_watcher_that_misses_repeats_or_reorders_an_event_is_a_failure() -> None:
    deliveries = Deliveries()
    deliveries.check(0, [0, 2])
    deliveries.check(0, [0])
    deliveries.check(1, [2, 1])
    for numbers in ([2], [0, 0], [0, 1]):
        with pytest.raises(Failed):
            deliveries.check(0, numbers)


def test_a_pod_has_the_size_that_is_asked_for() -> None:
    assert abs(sized_pod(f"pod-{COUNTER}", size=LISTED_POD_BYTES).ByteSize() - LISTED_POD_BYTES) <= 4


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def payload(parts: list[Part]) -> bytes:
    return b"".join(payload for type_, _, payload in parts if type_ == DATA)


@pytest.mark.parametrize("size", [1, 2, 7, 9, 10, 50, 1000])
def test_frames_are_read_in_whatever_pieces_they_come(size: int) -> None:
    frames = Frames()
    answer = message(b"x" * 40) + message(b"")
    sent = frame(HEADERS, 4, 1, b"head") + frame(DATA, 0, 1, answer[:30]) + frame(DATA, 0, 1, b"")
    sent += frame(DATA, 0, 1, answer[30:]) + frame(HEADERS, 4 | END_STREAM, 1, b"trailers")
    found = [one for piece in pieces(sent, size) for one in frames.read(piece)]
    assert b"".join(payload for type_, _, _, payload in found if type_ == DATA) == answer
    assert [one for one in found if one[0] == HEADERS] == [
        (HEADERS, 4, 1, b"head"),
        (HEADERS, 4 | END_STREAM, 1, b"trailers"),
    ]
    assert {stream for _, _, stream, _ in found} == {1}


@pytest.mark.parametrize("size", [1, 2, 3, 10, 1000])
def test_an_answer_of_http_is_read_in_whatever_pieces_it_comes(size: int) -> None:
    answers = Answers()
    sent = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd"
    sent += b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nefg\r\nA\r\n0123456789\r\n0\r\n\r\n"
    sent += b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    parts = [part for piece in pieces(sent, size) for part in answers.read(piece)]
    assert payload(parts) == message(b"") + b"abcd" + message(b"") + b"efg0123456789" + message(b"")
    ends = [payload for type_, flags, payload in parts if type_ == HEADERS and flags == END_STREAM]
    assert len(ends) == 3
    for end in ends:
        check_trailers(end)


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_each_line_of_an_http_watch_is_a_message(size: int) -> None:
    answers = Answers()
    answers.long = True
    sent = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\none\ntw\r\n3\r\no\nt\r\n"
    parts = [part for piece in pieces(sent, size) for part in answers.read(piece)]
    assert parts[0][:2] == (HEADERS, 0)
    assert payload(parts) == message(b"one") + message(b"two")


def test_an_http_answer_with_another_status_is_a_failure() -> None:
    with pytest.raises(Failed, match="409"):
        Answers().read(b"HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\n\r\n")
