"""Frames: the same ones in whatever pieces they come, and none that breaks HTTP/2's rules."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.http2 import frames
from controlplane.http2.frames import Code, ConnectionFault, FrameReader

FRAMES = st.tuples(
    st.integers(0, 255), st.integers(0, 255), st.integers(0, frames.LARGEST_STREAM), st.binary(max_size=30)
)


def only(data: bytes) -> frames.Frame:
    [frame] = FrameReader().read(data)
    return frame


@given(st.lists(FRAMES, max_size=6), st.lists(st.integers(0, 300), max_size=12))
def test_frames_are_the_same_in_whatever_pieces_they_come(sent: list[frames.Frame], cuts: list[int]) -> None:
    data = b"".join(frames.frame(*frame) for frame in sent)
    places = [0, *sorted(cuts), len(data)]
    reader = FrameReader()
    read = [frame for begin, end in pairwise(places) for frame in reader.read(data[begin:end])]
    assert read == sent


def test_a_frame_is_there_with_its_last_byte() -> None:
    reader = FrameReader()
    data = frames.frame(frames.PING, 0, 0, b"12345678")
    assert [len(reader.read(data[place : place + 1])) for place in range(len(data))] == [0] * (len(data) - 1) + [1]


def test_a_frame_may_be_as_large_as_http2_allows_to_everybody() -> None:
    payload = bytes(16_384)
    assert only(frames.frame(frames.DATA, 0, 1, payload)) == (frames.DATA, 0, 1, payload)


@pytest.mark.parametrize("size", [16_385, 65_535, 65_536, frames.LARGEST_FRAME])
def test_a_frame_that_is_too_large_is_a_fault_before_it_has_come(size: int) -> None:
    with pytest.raises(ConnectionFault, match=f"of {size} bytes") as raised:
        FrameReader().read(frames.head(size, frames.DATA, 0, 1))
    assert raised.value.code is Code.FRAME_SIZE_ERROR


def test_a_frame_that_is_too_large_is_a_fault_behind_others_too() -> None:
    with pytest.raises(ConnectionFault):
        FrameReader().read(frames.frame(frames.PING, 0, 0, bytes(8)) + frames.head(16_385, frames.DATA, 0, 1))


def test_the_top_bit_of_a_streams_number_is_ignored() -> None:
    assert only(frames.head(0, frames.HEADERS, frames.END_STREAM, 1 << 31 | 5)) == (1, 1, 5, b"")


@pytest.mark.parametrize("size", [0, 255, 65_535, 65_536, frames.LARGEST_FRAME])
def test_a_frames_size_is_in_its_first_three_bytes(size: int) -> None:
    assert frames.head(size, frames.DATA, 0, 1) == size.to_bytes(3, "big") + b"\0\0\0\0\0\1"


@pytest.mark.parametrize(
    ("payload", "rest"),
    [
        pytest.param(b"\0data", b"data", id="none"),
        pytest.param(b"\3data\0\0\0", b"data", id="some"),
        pytest.param(b"\4\0\0\0\0", b"", id="padding only"),
        pytest.param(b"\0", b"", id="nothing at all"),
        pytest.param(b"\xff" + b"d" + bytes(255), b"d", id="the most"),
    ],
)
def test_padding_is_taken_away(payload: bytes, rest: bytes) -> None:
    assert frames.unpadded(frames.PADDED | frames.END_STREAM, payload) == rest


def test_a_payload_without_padding_stays_as_it_is() -> None:
    assert frames.unpadded(0xFF & ~frames.PADDED, b"\3data") == b"\3data"


@pytest.mark.parametrize("payload", [b"", b"\1", b"\5data", b"\xffdata"])
def test_padding_that_is_longer_than_its_frame_is_a_fault(payload: bytes) -> None:
    with pytest.raises(ConnectionFault) as raised:
        frames.unpadded(frames.PADDED, payload)
    assert raised.value.code is Code.PROTOCOL_ERROR


def test_settings_are_read_in_their_order_the_unknown_and_the_repeated_among_them() -> None:
    payload = bytes.fromhex("0004 00000001 f00d ffffffff 0004 00000002")
    assert frames.read_settings(payload) == [(4, 1), (0xF00D, 0xFFFFFFFF), (4, 2)]
    assert frames.read_settings(b"") == []


def test_settings_that_are_made_are_read() -> None:
    values = {frames.MAX_CONCURRENT_STREAMS: 100, frames.INITIAL_WINDOW_SIZE: frames.LARGEST_WINDOW}
    type_, flags, stream, payload = only(frames.settings(values))
    assert (type_, flags, stream) == (frames.SETTINGS, 0, 0)
    assert frames.read_settings(payload) == list(values.items())


@pytest.mark.parametrize("size", [1, 5, 7, 11])
def test_settings_of_an_odd_size_are_a_fault(size: int) -> None:
    with pytest.raises(ConnectionFault) as raised:
        frames.read_settings(bytes(size))
    assert raised.value.code is Code.FRAME_SIZE_ERROR


def test_the_servers_own_frames_are_http2s() -> None:
    assert frames.window_update(3, 0x01020304) == bytes.fromhex("000004 08 00 00000003 01020304")
    assert frames.reset(5, Code.ENHANCE_YOUR_CALM) == bytes.fromhex("000004 03 00 00000005 0000000b")
    assert frames.go_away(7, Code.PROTOCOL_ERROR, "é") == bytes.fromhex("00000a 07 00 00000000 00000007 00000001 c3a9")
