"""Objects and events as bytes: what is sent is put together from what is stored, with no message parsed or built.

An object is stored without its resourceVersion, which is the revision of the very write that stores it. To send it,
the revision is added to the bytes of its metadata: these are the object's first field in every kind, and fields of a
message may come in any order, so that it is a matter of two lengths. (Appending a second metadata field, which parsers
are to merge, would be simpler still; protobuf.js does not merge.)

The object field of every kind's WatchEvent and the items of every kind's List have the number 2, so that the same bytes
serve both.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.message import Message

from podwire import v1

_METADATA: Final = b"\x0a"  # field 1, length-delimited
_RESOURCE_VERSION: Final = b"\x32"  # field 6 of ObjectMeta
_ITEM: Final = b"\x12"  # field 2: List.items and WatchEvent.object
_EVENT: Final = b"\x0a"  # field 1 of WatchResponse

# Field 1 of WatchEvent, its type.
ADDED: Final = b"\x0a\x05ADDED"
MODIFIED: Final = b"\x0a\x08MODIFIED"
DELETED: Final = b"\x0a\x07DELETED"
BOOKMARK: Final = b"\x0a\x08BOOKMARK"


def varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode(message: Any) -> bytes:
    """The object as it is stored: without resourceVersion, equal objects as equal bytes."""
    message.metadata.resource_version = ""
    data: bytes = message.SerializeToString(deterministic=True)
    if not data.startswith(_METADATA):
        raise ValueError(f"{message.DESCRIPTOR.name} does not begin with its metadata")
    return data


def stamp(stored: bytes, revision: int) -> bytes:
    """The object as it is sent: `stored` with `revision` as its resourceVersion."""
    length = shift = 0
    position = 1
    while True:
        byte = stored[position]
        position += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    text = b"%d" % revision
    end = position + length
    return b"".join(
        (
            _METADATA,
            varint(length + 2 + len(text)),
            stored[position:end],
            _RESOURCE_VERSION,
            varint(len(text)),
            text,
            stored[end:],
        )
    )


def item(sent: bytes) -> bytes:
    """An object as an element of a list, or as the object of an event."""
    return b"".join((_ITEM, varint(len(sent)), sent))


def item_start(framed: bytes) -> int:
    """Where the object's own bytes begin in an `item`."""
    position = 1
    while framed[position] >= 0x80:
        position += 1
    return position + 1


def event_header(event_type: bytes, item_size: int) -> bytes:
    """What goes before an `item` of that size to make it an event of a watch response."""
    return _EVENT + varint(len(event_type) + item_size) + event_type


def epoch_field(epoch: str) -> bytes:
    """The epoch of a watch response: its field 2."""
    data = epoch.encode()
    return b"\x12" + varint(len(data)) + data


def bookmark(revision: int, *, initial_events_end: str = "") -> bytes:
    """A BOOKMARK event: an object of any kind with nothing but a revision, and an annotation where one is given."""
    metadata = v1.ObjectMeta(resource_version=str(revision))
    if initial_events_end:
        metadata.annotations[initial_events_end] = "true"
    data = metadata.SerializeToString()
    framed = item(_METADATA + varint(len(data)) + data)
    return event_header(BOOKMARK, len(framed)) + framed


def list_metadata(metadata: v1.ListMeta) -> bytes:
    """The metadata of a list: its field 1."""
    data = metadata.SerializeToString()
    return _METADATA + varint(len(data)) + data


def restamp(message: Message, sent: bytes, revision: int) -> bytes:
    """`sent`, an object of the type of `message`, with another revision."""
    copy = type(message).FromString(sent)
    return stamp(encode(copy), revision)
