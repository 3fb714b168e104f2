"""Headers: requests are read as any encoder of HPACK meant them, and answers mean to any decoder what was said."""

from __future__ import annotations

import random
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from urllib.parse import unquote

import hpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from controlplane.http2 import headers
from controlplane.http2.frames import Code, ConnectionFault
from controlplane.http2.headers import HeaderReader, MalformedError, Metadata, Request, request_reader

GRPC = (b"content-type", b"application/grpc")
# POST, http and /, by their places in HPACK's own table.
PSEUDO = b"\x83\x86\x84"
BASE = PSEUDO + headers.field(*GRPC)
# The header that was added last to the table of a connection.
LATEST = b"\xbe"
# Updates of that table's size: to 0, 40 and 4,096 bytes.
EMPTIED, ONE_LEFT, WIDENED = b"\x20", b"\x3f\x09", b"\x3f\xe1\x1f"

PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40)
# A few names and values that come again, which the table is for, and any others.
KEYS = st.sampled_from(["x-a", "x-b", "user-agent"]) | st.from_regex(r"x[a-z0-9_.-]{0,10}y", fullmatch=True)
ITEMS = st.tuples(KEYS, st.sampled_from(["1", "2"]) | PRINTABLE) | st.tuples(
    KEYS.map(lambda key: key + "-bin"), st.binary(max_size=40)
)
METADATA: st.SearchStrategy[Metadata] = st.lists(ITEMS, max_size=5).map(tuple)


def added(name: bytes, value: bytes) -> bytes:
    """As `field`, for the table."""
    return b"\x40" + headers.field(name, value)[1:]


def block(*fields: tuple[bytes, bytes]) -> bytes:
    return b"".join(headers.field(*field) for field in fields)


def read(*fields: tuple[bytes, bytes]) -> headers.Request:
    """A request that is in order but, perhaps, for these."""
    return request_reader().read(BASE + block(*fields))


def wire(value: str | bytes, *, padded: bool = False) -> bytes:
    if isinstance(value, str):
        return value.encode()
    encoded = b64encode(value)
    return encoded if padded else encoded.rstrip(b"=")


def decoded(answer: bytes) -> list[tuple[bytes, bytes]]:
    # A client without a table understands every answer.
    decoder = hpack.Decoder(1 << 20)
    return [(name, value) for name, value in decoder.decode(headers.NO_TABLE + answer, raw=True)]


def who(request: headers.Request) -> list[str | bytes]:
    return [value for key, value in request.metadata if key == "who"]


@given(
    st.lists(
        st.tuples(
            METADATA, st.booleans(), st.sampled_from(["read", "read again", "skip"]), st.none() | st.integers(0, 4)
        ),
        max_size=10,
    )
)
def test_requests_are_read_as_the_clients_encoder_meant_them(
    requests: list[tuple[Metadata, bool, str, int | None]],
) -> None:
    encoder, reader = hpack.Encoder(), request_reader()
    for metadata, sensitive, what, size in requests:
        if size is not None:
            encoder.header_table_size = 100 * size
        fields = [(b":method", b"POST"), (b":scheme", b"https"), (b":path", b"/a.B/C"), (b":authority", b"here"), GRPC]
        fields += [(key.encode(), wire(value)) for key, value in metadata]
        # The sensitive ones are not for the table.
        for _ in range(2 if what == "read again" else 1):
            sent = encoder.encode([(name, value, sensitive) for name, value in fields])
            if what == "skip":
                reader.skip(sent)
            else:
                expected = (("content-type", "application/grpc"), *metadata)
                assert reader.read(sent) == headers.Request("/a.B/C", expected, None, "identity")


BLOCKS = {
    "adds a": BASE + added(b"who", b"a"),
    "adds b": BASE + added(b"who", b"b"),
    "adds what no table can take": BASE + added(b"who", bytes(5000)),
    "empties": EMPTIED + BASE,
    "keeps one": ONE_LEFT + BASE,
    "widens": WIDENED + BASE,
    "asks for the last": BASE + LATEST,
    "asks for the last but one": BASE + b"\xbf",
}


@given(st.lists(st.tuples(st.sampled_from(sorted(BLOCKS)), st.booleans()), max_size=14))
def test_a_block_means_what_the_table_says_when_it_comes(steps: list[tuple[str, bool]]) -> None:
    decoder, reader = hpack.Decoder(), request_reader()
    for step, skipped in steps:
        try:
            meant = [value.decode() for name, value in decoder.decode(BLOCKS[step], raw=True) if name == b"who"]
        except hpack.InvalidTableIndexError:
            with pytest.raises(ConnectionFault):
                reader.read(BLOCKS[step])
            break
        if skipped:
            reader.skip(BLOCKS[step])
        else:
            assert who(reader.read(BLOCKS[step])) == meant


def malformed(reader: HeaderReader[Request]) -> None:
    with pytest.raises(MalformedError):
        reader.read(added(b"who", b"b"))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda reader: reader.read(BASE + added(b"who", b"b")), id="read"),
        pytest.param(lambda reader: reader.skip(added(b"who", b"b")), id="skipped"),
        pytest.param(malformed, id="malformed"),
        pytest.param(lambda reader: reader.skip(EMPTIED + WIDENED + added(b"who", b"b")), id="emptied before"),
    ],
)
def test_a_known_block_is_read_anew_after_an_addition(change: Callable[[HeaderReader[Request]], object]) -> None:
    reader = request_reader()
    reader.read(BASE + added(b"who", b"a"))
    assert who(reader.read(BASE + LATEST)) == ["a"]
    change(reader)
    assert who(reader.read(BASE + LATEST)) == ["b"]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda reader: reader.read(EMPTIED + BASE), id="read"),
        pytest.param(lambda reader: reader.skip(EMPTIED), id="skipped"),
        pytest.param(lambda reader: reader.skip(added(b"who", bytes(5000))), id="by what is too large for it"),
    ],
)
def test_a_known_block_is_a_fault_after_the_table_was_emptied(
    change: Callable[[HeaderReader[Request]], object],
) -> None:
    reader = request_reader()
    # The second time is not a known one.
    for _ in range(2):
        reader.skip(WIDENED)
        reader.read(BASE + added(b"who", b"a"))
        assert who(reader.read(BASE + LATEST)) == ["a"]
        change(reader)
    with pytest.raises(ConnectionFault) as raised:
        reader.read(BASE + LATEST)
    assert raised.value.code is Code.COMPRESSION_ERROR


def test_a_block_that_adds_to_the_table_does_so_each_time() -> None:
    reader = request_reader()
    for _ in range(2):
        reader.read(BLOCKS["adds a"])
    reader.read(BLOCKS["adds b"])
    # The last but two.
    assert who(reader.read(BASE + b"\xc0")) == ["a"]


def test_a_block_that_leaves_the_table_as_it_is_is_read_once() -> None:
    reader = request_reader()
    reader.read(BASE + added(b"who", b"a"))
    assert reader.read(BASE + LATEST) is reader.read(BASE + LATEST)


def test_blocks_that_are_remembered_are_few() -> None:
    reader = request_reader()
    for number in range(1000):
        assert who(reader.read(BASE + block((b"who", b"%d" % number)))) == [str(number)]
    assert 0 < len(reader._known) <= 256


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(block((b"x", b"v" * 4000)), id="a long block"),
        pytest.param(b"\xbf" * 2, id="long headers of the table"),
        pytest.param(LATEST * 130, id="many headers of the table"),
    ],
)
def test_a_block_that_says_much_is_not_remembered(more: bytes) -> None:
    reader = request_reader()
    reader.skip(added(b"x", b"v" * 2000) + added(b"", b""))
    reader.read(BASE + more)
    assert not reader._known


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"2H", 7200),
        (b"3M", 180),
        (b"4S", 4),
        (b"5m", 0.005),
        (b"6u", 6e-6),
        (b"7n", 7e-9),
        (b"0n", 0),
        (b"00000012S", 12),
        (b"99999999H", 99_999_999 * 3600),
    ],
)
def test_a_timeout_is_read_in_every_unit(value: bytes, seconds: float) -> None:
    assert read((b"grpc-timeout", value)).timeout == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"S",
        b"1",
        b"1s",
        b"1h",
        b"1SS",
        b"-1S",
        b"+1S",
        b" 1S",
        b"1 S",
        b"1.5S",
        b"1_0S",
        b"123456789S",
        "１S".encode(),
    ],
)
def test_a_timeout_that_is_none_is_malformed(value: bytes) -> None:
    with pytest.raises(MalformedError, match="timeout"):
        read((b"grpc-timeout", value))


def test_a_request_without_a_timeout_has_all_the_time() -> None:
    assert read().timeout is None


def test_a_request_says_how_its_messages_are_compressed() -> None:
    assert read().encoding == "identity"
    assert read((b"grpc-encoding", b"gzip")).encoding == "gzip"


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("value", [b"", b"a", b"ab", b"abc", b"abcd", bytes(range(256))])
def test_binary_metadata_are_read_with_padding_and_without(value: bytes, padded: bool) -> None:
    assert read((b"x-bin", wire(value, padded=padded))).metadata[1:] == (("x-bin", value),)


@pytest.mark.parametrize(
    "value", [b"Y", b"YWJjZ", b"Y!==", b"YW Jj", b"YQ==YQ==", b"====", b"-_-_", b"\xff\xff\xff\xff"]
)
def test_binary_metadata_that_are_not_base64_are_malformed(value: bytes) -> None:
    with pytest.raises(MalformedError, match="base64"):
        read((b"x-bin", value))


def test_metadata_keep_their_order_and_their_repetitions() -> None:
    sent = [(b"x", b"2"), (b"y", b"\xe9"), (b"x", b"1"), (b"x", b"1")]
    assert read(*sent).metadata[1:] == (("x", "2"), ("y", "é"), ("x", "1"), ("x", "1"))


METHOD, SCHEME, PATH = (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a")


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([], id="nothing"),
        pytest.param([SCHEME, PATH, GRPC], id="no method"),
        pytest.param([METHOD, PATH, GRPC], id="no scheme"),
        pytest.param([METHOD, SCHEME, GRPC], id="no path"),
        pytest.param([METHOD, SCHEME, PATH, PATH, GRPC], id="two paths"),
        pytest.param([METHOD, SCHEME, PATH, (b":authority", b"a"), (b":authority", b"b"), GRPC], id="two authorities"),
        pytest.param([METHOD, SCHEME, GRPC, PATH], id="a path after ordinary headers"),
        pytest.param([METHOD, SCHEME, PATH, GRPC, (b":authority", b"a")], id="an authority after ordinary headers"),
        pytest.param([METHOD, SCHEME, PATH, (b":status", b"200"), GRPC], id="an answer's"),
        pytest.param([METHOD, SCHEME, PATH, (b":other", b"1"), GRPC], id="an unknown one"),
    ],
)
def test_a_request_whose_pseudo_headers_are_not_in_order_is_malformed(fields: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(MalformedError):
        request_reader().read(block(*fields))


@pytest.mark.parametrize("name", [b"X-a", b"x-A", b"X-BIN", b"Grpc-Timeout", b"x\xc0"])
def test_a_header_in_capitals_is_malformed(name: bytes) -> None:
    with pytest.raises(MalformedError, match="small letters"):
        read((name, b"YQ"))


def test_what_is_malformed_ends_a_request_and_not_its_connection() -> None:
    reader = request_reader()
    for _ in range(2):
        with pytest.raises(MalformedError):
            reader.read(BASE + added(b"who", b"a") + block((b"grpc-timeout", b"soon")))
    assert who(reader.read(BASE + LATEST)) == ["a"]


@pytest.mark.parametrize(
    ("method", "content_type", "status"),
    [
        (b"POST", b"application/grpc", None),
        (b"POST", b"application/grpc+proto", None),
        (b"POST", b"application/grpc;charset=utf-8", None),
        (b"GET", b"application/grpc", 405),
        (b"GET", b"text/html", 405),
        (b"post", b"application/grpc", 405),
        (b"POST", b"application/grpc-web", 415),
        (b"POST", b"application/grpc-web+proto", 415),
        (b"POST", b"application/json", 415),
        (b"POST", b"", 415),
    ],
)
def test_what_is_no_request_of_grpcs_is_refused(method: bytes, content_type: bytes, status: int | None) -> None:
    sent = block((b":method", method), SCHEME, PATH, (b"content-type", content_type))
    assert request_reader().read(sent).refusal == (status and headers.http_status(status))


def test_a_request_without_a_content_type_is_refused() -> None:
    assert request_reader().read(PSEUDO).refusal == headers.http_status(415)


def of_size(size: int) -> bytes:
    """A request with so many bytes, as RFC 9113 counts them."""
    others = sum(len(name) + len(value) + 32 for name, value in [METHOD, SCHEME, (b":path", b"/"), GRPC])
    return BASE + block((b"x", b"v" * (size - others - 32 - 1)))


def test_a_request_with_too_many_headers_for_a_call_is_told_so() -> None:
    reader = request_reader()
    assert reader.read(of_size(64 * 1024)).refusal is None
    refusal = reader.read(of_size(64 * 1024 + 1)).refusal
    assert refusal is not None
    answer = dict(decoded(refusal))
    assert (answer[b":status"], answer[b"grpc-status"]) == (b"200", b"8")
    assert b"65537" in answer[b"grpc-message"]


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(of_size(256 * 1024 + 1), id="one that is too long"),
        pytest.param(BASE + block((b"x", b"")) * 8000, id="many short ones"),
        pytest.param(BASE + added(b"x", b"v" * 4000) + LATEST * 70, id="one long one, again and again"),
    ],
)
def test_more_headers_than_are_read_are_a_fault(sent: bytes) -> None:
    for take in (request_reader().read, request_reader().skip):
        with pytest.raises(ConnectionFault) as raised:
            take(sent)
        assert raised.value.code is Code.ENHANCE_YOUR_CALM


def test_rubbish_is_a_fault_of_compression_or_a_malformed_request_and_nothing_else() -> None:
    source = random.Random(1)
    ends: Counter[object] = Counter()
    for _ in range(2000):
        try:
            request_reader().read(source.randbytes(source.randrange(60)))
        except ConnectionFault as fault:
            ends[fault.code] += 1
        except MalformedError:
            ends[MalformedError] += 1
    assert ends.keys() == {Code.COMPRESSION_ERROR, MalformedError}
    assert ends[Code.COMPRESSION_ERROR] > 1500


def test_a_block_that_is_cut_off_is_never_taken_for_the_whole() -> None:
    whole = hpack.Encoder().encode([METHOD, SCHEME, PATH, GRPC, (b"x-a", b"some value")])
    last = hpack.Encoder().encode([(b"x-a", b"some value")])
    for size in range(len(whole) - len(last) + 1, len(whole)):
        with pytest.raises(ConnectionFault) as raised:
            request_reader().read(whole[:size])
        assert raised.value.code is Code.COMPRESSION_ERROR


@pytest.mark.parametrize("start", [b"\xff", b"\x7f", b"\x3f", b"\x0f", b"\x00\x7f", b"\x00\x01x\x7f"])
def test_a_number_without_end_is_a_fault(start: bytes) -> None:
    with pytest.raises(ConnectionFault) as raised:
        request_reader().read(start + b"\xff" * 10_000 + b"\x00")
    assert raised.value.code is Code.COMPRESSION_ERROR


@given(METADATA)
def test_metadata_of_answers_are_what_was_said(metadata: Metadata) -> None:
    assert decoded(headers.fields(metadata)) == [(key.encode(), wire(value)) for key, value in metadata]


@pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 254, 255, 256, 16_000, 16_510, 16_511, 100_000])
def test_a_field_may_be_of_any_length(size: int) -> None:
    name, value = b"n" * max(size, 1), b"v" * size
    assert decoded(headers.field(name, b"1") + headers.field(b"x", value)) == [(name, b"1"), (b"x", value)]


def test_binary_metadata_of_answers_are_base64_without_padding() -> None:
    assert headers.fields([("x-bin", b"\xff\xfe")]) == headers.field(b"x-bin", b"//4")


@pytest.mark.parametrize("value", ["é", "a\nb", "\t", "\x7f", "\x00", b"\xff", b"a\r"])
def test_metadata_that_are_not_printable_are_refused(value: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"printable|ascii"):
        headers.fields([("x", value)])


@pytest.mark.parametrize("key", ["", "X-A", ":status", "a b", "a\n", "é", "X-bin"])
def test_metadata_whose_key_is_none_of_grpcs_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match="key"):
        headers.fields([(key, b"value")])


def test_an_answer_begins_with_its_status_and_type() -> None:
    assert decoded(headers.ANSWER) == [(b":status", b"200"), GRPC]


@pytest.mark.parametrize("status", [405, 415])
def test_a_refusal_is_a_status_of_http(status: int) -> None:
    assert decoded(headers.http_status(status)) == [(b":status", b"%d" % status)]


def test_a_good_end_needs_no_words() -> None:
    assert decoded(headers.trailers(0, "")) == decoded(headers.trailers(0, "fine")) == [(b"grpc-status", b"0")]


def test_a_status_without_words_has_no_message() -> None:
    assert decoded(headers.trailers(12, "")) == [(b"grpc-status", b"12")]


PLAIN = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


@given(st.text(min_size=1))
@example("100 % of é, 漢字 and 🙂\r\n\0\x7f%41")
@example("long " * 4000)
@example(PLAIN)
def test_the_words_of_a_status_come_through(details: str) -> None:
    status, (name, message) = decoded(headers.trailers(5, details))
    assert (status, name) == ((b"grpc-status", b"5"), b"grpc-message")
    assert all(0x20 <= byte <= 0x7E for byte in message)
    assert unquote(message.decode(), errors="strict") == details


def test_only_what_must_be_is_encoded_in_the_words_of_a_status() -> None:
    [_, (_, message)] = decoded(headers.trailers(5, PLAIN + "%\n"))
    assert message.decode() == PLAIN + "%25%0A"


def test_words_that_no_encoding_has_do_not_keep_a_status_from_its_client() -> None:
    assert decoded(headers.trailers(5, "file \udcff")) == [(b"grpc-status", b"5"), (b"grpc-message", b"file ?")]


def test_answers_add_nothing_to_a_clients_table() -> None:
    decoder = hpack.Decoder()
    for answer in (headers.ANSWER, headers.trailers(5, "no"), headers.http_status(415), headers.fields([("x", "y")])):
        decoder.decode(answer)
    assert not decoder.header_table.dynamic_entries
    decoder.decode(headers.NO_TABLE)
    assert decoder.header_table_size == 0
