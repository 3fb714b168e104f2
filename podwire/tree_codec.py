"""Trees (what YAML and JSON give) <-> messages, driven by the descriptors, strict, and with every error at its path.

protobuf's own JSON is too lax for manifests: it takes "3" for 3 and restart_policy for restartPolicy, drops
`replicas: 0`, prints int64 as text, and stops at the first error. Here a value has exactly the type of its field. Four
messages have a notation of their own: Quantity, IntOrString, Timestamp and Struct.
"""

from __future__ import annotations

import base64
import difflib
import math
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from podwire import quantity
from podwire.errors import FieldError

Tree = Mapping[str, Any]

# protobuf reads messages nested 100 deep, and a level of a Struct is three messages.
_DEEPEST_STRUCT: Final = 20


def fill(message: Message, tree: Tree, path: str = "") -> list[FieldError]:
    """Sets the fields of `message` that `tree` names; null is absent. The errors are all there are."""
    wrong: list[FieldError] = []
    _fill(message, tree, path, wrong)
    return wrong


def to_tree(message: Message) -> dict[str, Any]:
    """The fields that `message` has, by their manifest names in alphabetical order."""
    tree: dict[str, Any] = {}
    for field in _fields(message.DESCRIPTOR).values():
        if field.in_tree(message):
            tree[field.name] = field.to_tree(getattr(message, field.attribute))
    return tree


def suggestion(word: str, known: list[str]) -> str:
    """`; did you mean "image"?`, or nothing where nothing is near."""
    folded = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower().replace("_", ""), folded, n=1, cutoff=0.75)
    return f'; did you mean "{folded[near[0]]}"?' if near else ""


class _Wrong(ValueError):
    """A value that does not fit its field; the text says what to change."""


# One value of a repeated or plain field: tree -> what protobuf's Python takes.
_Decode = Callable[[Any], Any]
_Encode = Callable[[Any], Any]


class _Field:
    """How one field is read and written. Subclasses are the shapes of a field: one value, a list, a map."""

    def __init__(self, descriptor: FieldDescriptor) -> None:
        self.name: str = descriptor.json_name
        self.attribute: str = descriptor.name
        self._descriptor = descriptor

    def in_tree(self, message: Message) -> bool:
        """Whether the field is printed: a list or map that has items, and a scalar that is set."""
        if self._descriptor.has_presence:
            return message.HasField(self.attribute)
        return bool(getattr(message, self.attribute))

    def fill(self, message: Message, value: Any, path: str, wrong: list[FieldError]) -> None:
        raise NotImplementedError

    def to_tree(self, value: Any) -> Any:
        raise NotImplementedError


class _Single(_Field):
    def __init__(self, descriptor: FieldDescriptor) -> None:
        super().__init__(descriptor)
        self._value = _value(descriptor)

    def fill(self, message: Message, value: Any, path: str, wrong: list[FieldError]) -> None:
        value_type = self._value
        if isinstance(value_type, _MessageValue):
            inner = getattr(message, self.attribute)
            # Present also where it is empty: `emptyDir: {}`.
            inner.SetInParent()
            value_type.fill(inner, value, path, wrong)
            return
        try:
            setattr(message, self.attribute, value_type.decode(value))
        except _Wrong as error:
            wrong.append(FieldError(path, str(error)))

    def to_tree(self, value: Any) -> Any:
        return self._value.encode(value)


class _List(_Field):
    def __init__(self, descriptor: FieldDescriptor) -> None:
        super().__init__(descriptor)
        self._value = _value(descriptor)

    def fill(self, message: Message, value: Any, path: str, wrong: list[FieldError]) -> None:
        if not isinstance(value, list):
            wrong.append(FieldError(path, f'must be a list, not {_describe(value)}: begin each item with "- "'))
            return
        items = getattr(message, self.attribute)
        value_type = self._value
        for i, item in enumerate(value):
            inner = f"{path}[{i}]"
            if item is None:
                wrong.append(FieldError(inner, "must not be null: give the item a value, or remove it"))
            elif isinstance(value_type, _MessageValue):
                value_type.fill(items.add(), item, inner, wrong)
            else:
                try:
                    items.append(value_type.decode(item))
                except _Wrong as error:
                    wrong.append(FieldError(inner, str(error)))

    def to_tree(self, value: Any) -> Any:
        encode = self._value.encode
        return [encode(item) for item in value]


class _Map(_Field):
    """All maps of the API have keys of text."""

    def __init__(self, descriptor: FieldDescriptor) -> None:
        super().__init__(descriptor)
        entry = descriptor.message_type
        assert entry is not None
        self._value = _value(entry.fields_by_name["value"])

    def fill(self, message: Message, value: Any, path: str, wrong: list[FieldError]) -> None:
        if not isinstance(value, Mapping):
            wrong.append(FieldError(path, f"must be a mapping, not {_describe(value)}: write key: value"))
            return
        items = getattr(message, self.attribute)
        value_type = self._value
        for key, item in value.items():
            if item is None:
                continue
            inner = f"{path}[{key}]"
            try:
                key = _text(key)
                if isinstance(value_type, _MessageValue):
                    value_type.fill(items[key], item, inner, wrong)
                else:
                    items[key] = value_type.decode(item)
            except _Wrong as error:
                wrong.append(FieldError(inner, str(error)))

    def to_tree(self, value: Any) -> Any:
        encode = self._value.encode
        return {key: encode(value[key]) for key in sorted(value)}


class _ScalarValue:
    def __init__(self, decode: _Decode, encode: _Encode = lambda value: value) -> None:
        self.decode = decode
        self.encode = encode


class _MessageValue:
    """A message: fields by name, unless its type has a notation of its own."""

    def __init__(self, descriptor: Descriptor) -> None:
        self._notation = _NOTATIONS.get(descriptor.full_name)

    def fill(self, message: Message, value: Any, path: str, wrong: list[FieldError]) -> None:
        if self._notation is None:
            _fill(message, value, path, wrong)
            return
        decode, _ = self._notation
        try:
            decode(message, value)
        except _Wrong as error:
            wrong.append(FieldError(path, str(error)))

    def encode(self, message: Message) -> Any:
        if self._notation is None:
            return to_tree(message)
        _, encode = self._notation
        return encode(message)


def _fill(message: Message, tree: Any, path: str, wrong: list[FieldError]) -> None:
    if not isinstance(tree, Mapping):
        wrong.append(FieldError(path, f"must be a mapping, not {_describe(tree)}: write its fields below it"))
        return
    fields = _fields(message.DESCRIPTOR)
    for key, value in tree.items():
        inner = f"{path}.{key}" if path else str(key)
        field = fields.get(key)
        if field is None:
            wrong.append(FieldError(inner, f"unknown field{suggestion(str(key), list(fields))}"))
        elif value is not None:
            field.fill(message, value, inner, wrong)


@cache
def _fields(descriptor: Descriptor) -> Mapping[str, _Field]:
    """The fields of a message by their manifest names, in alphabetical order as kubectl prints them."""
    fields = (_field(field) for field in descriptor.fields)
    return {field.name: field for field in sorted(fields, key=lambda field: field.name)}


def _field(descriptor: FieldDescriptor) -> _Field:
    if not descriptor.is_repeated:
        return _Single(descriptor)
    entry = descriptor.message_type
    if entry is not None and entry.GetOptions().map_entry:
        return _Map(descriptor)
    return _List(descriptor)


def _value(descriptor: FieldDescriptor) -> _ScalarValue | _MessageValue:
    if descriptor.message_type is not None:
        return _MessageValue(descriptor.message_type)
    match descriptor.type:
        case FieldDescriptor.TYPE_STRING:
            return _ScalarValue(_text)
        case FieldDescriptor.TYPE_BOOL:
            return _ScalarValue(_boolean)
        case FieldDescriptor.TYPE_INT32:
            return _ScalarValue(_integer(32))
        case FieldDescriptor.TYPE_INT64:
            return _ScalarValue(_integer(64))
        case FieldDescriptor.TYPE_BYTES:
            return _ScalarValue(_bytes, lambda value: base64.b64encode(value).decode())
    raise NotImplementedError(f"{descriptor.full_name}: fields of type {descriptor.type} have no form in a manifest")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        remedy = f': quote it ("{_yaml(value)}")' if isinstance(value, bool | int | float) else ""
        raise _Wrong(f"must be text, not {_describe(value)}{remedy}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _Wrong("has half of a surrogate pair, which is no character") from None
    return value


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        quoted = isinstance(value, str) and value.lower() in ("true", "false")
        raise _Wrong(f"must be true or false, not {_describe(value)}{': remove the quotes' if quoted else ''}")
    return value


def _integer(bits: int) -> _Decode:
    limit = 2 ** (bits - 1)

    def decode(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            quoted = isinstance(value, str) and re.fullmatch(r"[-+]?[0-9]+", value)
            raise _Wrong(f"must be a whole number, not {_describe(value)}{': remove the quotes' if quoted else ''}")
        if not -limit <= value < limit:
            raise _Wrong(f"must be between {-limit} and {limit - 1}, not {value}")
        return value

    return decode


def _bytes(value: Any) -> bytes:
    try:
        return base64.b64decode(re.sub(r"[\r\n]", "", _text(value)), validate=True)
    except ValueError as error:
        if isinstance(error, _Wrong):
            raise
        raise _Wrong("is not base64: encode it, or use stringData in a Secret, data in a ConfigMap") from None


def _decode_quantity(message: Message, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _Wrong(f"must be a quantity as in 100m, 1.5 or 512Mi, not {_describe(value)}")
    try:
        # repr of a float is the shortest text that means it; what YAML calls 0.1 stays 0.1.
        text = quantity.canonical(value if isinstance(value, str) else repr(value))
    except ValueError as error:
        raise _Wrong(str(error)) from None
    message.string = text  # type: ignore[attr-defined]


def _decode_int_or_string(message: Message, value: Any) -> None:
    if isinstance(value, str):
        message.string = _text(value)  # type: ignore[attr-defined]
    elif isinstance(value, int) and not isinstance(value, bool):
        message.int = _integer(32)(value)  # type: ignore[attr-defined]
    else:
        raise _Wrong(f"must be a whole number or text, not {_describe(value)}")


def _encode_int_or_string(message: Any) -> Any:
    return message.string if message.WhichOneof("value") == "string" else message.int


def _decode_timestamp(message: Message, value: Any) -> None:
    assert isinstance(message, Timestamp)
    try:
        message.FromJsonString(_text(value))
    except ValueError as error:
        if isinstance(error, _Wrong):
            raise
        raise _Wrong(f'must be a time as in 2006-01-02T15:04:05Z (RFC 3339), not "{value}"') from None


def _decode_struct(message: Message, value: Any) -> None:
    assert isinstance(message, Struct)
    if not isinstance(value, Mapping):
        raise _Wrong(f"must be a mapping, not {_describe(value)}")
    _check_json(value, 0)
    message.update(dict(value))


def _check_json(value: Any, depth: int) -> None:
    if depth > _DEEPEST_STRUCT:
        raise _Wrong(f"must not be nested deeper than {_DEEPEST_STRUCT} levels")
    if isinstance(value, float) and not math.isfinite(value):
        raise _Wrong(f"must have finite numbers only, not {value}")
    if isinstance(value, str):
        _text(value)
    for inner in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        _check_json(inner, depth + 1)
    for key in value if isinstance(value, Mapping) else ():
        _text(key)


def _encode_struct(message: Message) -> Any:
    return _whole_numbers(MessageToDict(message))


def _whole_numbers(tree: Any) -> Any:
    """A Struct has only floats; 3.0 was 3."""
    if isinstance(tree, dict):
        return {key: _whole_numbers(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_whole_numbers(value) for value in tree]
    return int(tree) if isinstance(tree, float) and tree.is_integer() else tree


_NOTATIONS: Final[Mapping[str, tuple[Callable[[Any, Any], None], Callable[[Any], Any]]]] = {
    "podwire.v1.Quantity": (_decode_quantity, lambda message: message.string),
    "podwire.v1.IntOrString": (_decode_int_or_string, _encode_int_or_string),
    "google.protobuf.Timestamp": (_decode_timestamp, lambda message: message.ToJsonString()),
    "google.protobuf.Struct": (_decode_struct, _encode_struct),
}


def _describe(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return f"the boolean {_yaml(value)}"
        case int() | float():
            return f"the number {value}"
        case str():
            return f'the text "{value if len(value) <= 40 else value[:40] + "…"}"'
        case list():
            return "a list"
    return "a mapping"


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
