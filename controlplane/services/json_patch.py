"""JSON patches (RFC 6902): operations on a tree, one after another, all or none. Pure functions.

A patch changes a copy of the tree: where an operation fails, nothing has happened. Every error names the number of the
operation and its path. Why not a library: docs/decisions/0008-patches-are-our-own.md.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from podwire import errors

# Kubernetes' limit.
MOST_OPERATIONS: Final = 10_000
# What all copy operations of a patch may add, as JSON: each may double the tree. As much as an object may have.
MOST_COPIED_BYTES: Final = 1536 * 1024

# What a pointer leads to: a mapping and a name in it, or a list and an index of it.
_Container = dict[str, Any] | list[Any]


def apply(tree: Any, patch: Any) -> Any:
    """What `patch` makes of `tree`. Raises Invalid, or PreconditionFailed where a `test` does not hold."""
    return _Patching(tree).apply(_operations(patch))


def _operations(patch: Any) -> Sequence[Any]:
    if not isinstance(patch, list):
        raise errors.Invalid('a JSON patch must be a list of operations, as in [{"op": "remove", "path": "/spec/x"}]')
    if len(patch) > MOST_OPERATIONS:
        raise errors.Invalid(f"the patch has {len(patch)} operations: at most {MOST_OPERATIONS} are taken")
    return patch


class _Wrong(ValueError):
    """What is wrong with an operation; the text says what to change."""


class _Unequal(Exception):
    """A `test` that does not hold."""


class _Patching:
    """The state of one patch on its way: the tree so far, and how much was copied."""

    def __init__(self, tree: Any) -> None:
        self._tree = copy.deepcopy(tree)
        self._copied = 0
        self._verbs: Mapping[str, Callable[[Mapping[str, Any], Sequence[str]], None]] = {
            "add": lambda operation, path: self._add(path, copy.deepcopy(_member(operation, "value"))),
            "remove": lambda operation, path: self._remove(path),
            "replace": self._replace,
            "move": self._move,
            "copy": self._copy,
            "test": self._test,
        }

    def apply(self, operations: Sequence[Any]) -> Any:
        for index, operation in enumerate(operations):
            where = f"patch[{index}]"
            try:
                if not isinstance(operation, dict):
                    raise _Wrong('must be an object with "op" and "path"')
                where = _describe(index, operation)
                self._apply(operation)
            except _Wrong as wrong:
                raise errors.Invalid.fields("the JSON patch", [errors.FieldError(where, str(wrong))]) from None
            except _Unequal as unequal:
                raise errors.PreconditionFailed(f"the JSON patch does not fit: {where}: {unequal}") from None
        return self._tree

    def _apply(self, operation: Mapping[str, Any]) -> None:
        name = _member(operation, "op")
        verb = self._verbs.get(name) if isinstance(name, str) else None
        if verb is None:
            raise _Wrong(f"op must be one of {', '.join(self._verbs)}, not {_shown(name)}")
        verb(operation, _pointer(operation, "path"))

    def _add(self, path: Sequence[str], value: Any) -> None:
        if not path:
            self._tree = value
            return
        container = self._container(path)
        if isinstance(container, dict):
            container[path[-1]] = value
        else:
            end = len(container)
            container.insert(end if path[-1] == "-" else _index(path[-1], end + 1), value)

    def _remove(self, path: Sequence[str]) -> Any:
        if not path:
            raise _Wrong("the whole object cannot be removed: delete it instead")
        container = self._container(path)
        if isinstance(container, dict):
            _must_have(container, path[-1])
            return container.pop(path[-1])
        return container.pop(_index(path[-1], len(container)))

    def _replace(self, operation: Mapping[str, Any], path: Sequence[str]) -> None:
        value = copy.deepcopy(_member(operation, "value"))
        if not path:
            self._tree = value
            return
        container = self._container(path)
        if isinstance(container, dict):
            _must_have(container, path[-1])
            container[path[-1]] = value
        else:
            container[_index(path[-1], len(container))] = value

    def _move(self, operation: Mapping[str, Any], path: Sequence[str]) -> None:
        source = _pointer(operation, "from")
        if list(path) == list(source):
            self._value(source)
            return
        if list(path[: len(source)]) == list(source):
            raise _Wrong("a value cannot be moved into itself")
        self._add(path, self._remove(source))

    def _copy(self, operation: Mapping[str, Any], path: Sequence[str]) -> None:
        value = self._value(_pointer(operation, "from"))
        self._copied += len(json.dumps(value))
        if self._copied > MOST_COPIED_BYTES:
            raise _Wrong(f"the copies of this patch come to more than {MOST_COPIED_BYTES} bytes")
        self._add(path, copy.deepcopy(value))

    def _test(self, operation: Mapping[str, Any], path: Sequence[str]) -> None:
        wanted, found = _member(operation, "value"), self._value(path)
        if not _equal(found, wanted):
            raise _Unequal(f"it is {_shown(found)}, not {_shown(wanted)}")

    def _container(self, path: Sequence[str]) -> _Container:
        """What the last name of `path` is in."""
        container = self._value(path[:-1])
        if not isinstance(container, dict | list):
            raise _Wrong(f"{_written(path[:-1])} is {_shown(container)}, which has nothing in it")
        return container

    def _value(self, path: Sequence[str]) -> Any:
        value = self._tree
        for depth, name in enumerate(path):
            if isinstance(value, dict):
                _must_have(value, name)
                value = value[name]
            elif isinstance(value, list):
                value = value[_index(name, len(value))]
            else:
                raise _Wrong(f"{_written(path[:depth])} is {_shown(value)}, which has nothing in it")
        return value


def _member(operation: Mapping[str, Any], name: str) -> Any:
    if name not in operation:
        raise _Wrong(f'"{name}" is missing')
    return operation[name]


def _pointer(operation: Mapping[str, Any], name: str) -> list[str]:
    """The names that a JSON pointer (RFC 6901) consists of."""
    text = _member(operation, name)
    if not isinstance(text, str) or (text and not text.startswith("/")) or re.search("~([^01]|$)", text):
        raise _Wrong(f'"{name}" must be a JSON pointer, as in /metadata/labels/app or "", not {_shown(text)}')
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _index(name: str, count: int) -> int:
    """Which of the `count` items of a list `name` means."""
    if name == "-":
        raise _Wrong('"-" is behind the last item of a list, where there is nothing yet')
    if not re.fullmatch("0|[1-9][0-9]{0,8}", name):
        raise _Wrong(f"{_shown(name)} is no index of a list")
    if int(name) >= count:
        raise _Wrong(f"there is no item {name} in the list: it has {count}")
    return int(name)


def _must_have(mapping: Mapping[str, Any], name: str) -> None:
    if name not in mapping:
        raise _Wrong(f"there is no {_shown(name)}")


def _equal(one: Any, other: Any) -> bool:
    """JSON's equality: unlike Python's, true is not 1; like it, 1.0 is 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _describe(index: int, operation: Mapping[str, Any]) -> str:
    """`patch[2] (remove /spec/x)`."""
    words = " ".join(str(operation[name])[:200] for name in ("op", "path") if name in operation)
    return f"patch[{index}] ({words})" if words else f"patch[{index}]"


def _written(path: Sequence[str]) -> str:
    return "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in path) or "the object"


def _shown(value: Any) -> str:
    """`value` as JSON, as far as an error needs it."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:80]}…"
