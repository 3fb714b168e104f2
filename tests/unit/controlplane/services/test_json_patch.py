"""JSON patches: the examples of RFC 6902's appendix in other words, its rules, and our limits."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from controlplane.services import json_patch
from podwire import errors


def op(name: str, path: str, **members: Any) -> dict[str, Any]:
    return {"op": name, "path": path, **{key.rstrip("_"): value for key, value in members.items()}}


@pytest.mark.parametrize(
    ("tree", "patch", "expected"),
    [
        pytest.param({"a": 1}, [op("add", "/b", value=2)], {"a": 1, "b": 2}, id="A.1 add a member"),
        pytest.param({"a": [1, 3]}, [op("add", "/a/1", value=2)], {"a": [1, 2, 3]}, id="A.2 add an item"),
        pytest.param({"a": 1, "b": 2}, [op("remove", "/a")], {"b": 2}, id="A.3 remove a member"),
        pytest.param({"a": [1, 2, 3]}, [op("remove", "/a/1")], {"a": [1, 3]}, id="A.4 remove an item"),
        pytest.param({"a": 1}, [op("replace", "/a", value="x")], {"a": "x"}, id="A.5 replace a value"),
        pytest.param(
            {"a": {"x": 1, "y": 2}, "b": {}},
            [op("move", "/b/z", from_="/a/x")],
            {"a": {"y": 2}, "b": {"z": 1}},
            id="A.6",
        ),
        pytest.param({"a": [1, 2, 3]}, [op("move", "/a/2", from_="/a/0")], {"a": [2, 3, 1]}, id="A.7 move an item"),
        pytest.param({"a": [1, "x"]}, [op("test", "/a/1", value="x")], {"a": [1, "x"]}, id="A.8 a test that holds"),
        pytest.param({"a": 1}, [op("add", "/b", value={"c": {}})], {"a": 1, "b": {"c": {}}}, id="A.10 nested"),
        pytest.param({"a": 1}, [op("add", "/b", value=2, more="x")], {"a": 1, "b": 2}, id="A.11 unknown members"),
        pytest.param({"/": 9, "~1": 10}, [op("test", "/~01", value=10)], {"/": 9, "~1": 10}, id="A.14 escapes"),
        pytest.param({"a": [1]}, [op("add", "/a/-", value=[2, 3])], {"a": [1, [2, 3]]}, id="A.16 add at the end"),
        pytest.param({"a": [1]}, [op("add", "/a/1", value=2)], {"a": [1, 2]}, id="add behind the last item"),
        pytest.param({"a": 1}, [op("add", "/a", value=2)], {"a": 2}, id="add replaces what is there"),
        pytest.param({"a": 1}, [op("replace", "", value={"b": 2})], {"b": 2}, id="replace all of it"),
        pytest.param({"a": 1}, [op("add", "", value=[])], [], id="add at the root"),
        pytest.param({"a": {"b": 1}}, [op("copy", "/c", from_="/a")], {"a": {"b": 1}, "c": {"b": 1}}, id="copy"),
        pytest.param({"a": None}, [op("test", "/a", value=None)], {"a": None}, id="null is a value"),
        pytest.param({"": 1}, [op("remove", "/")], {}, id="the empty name"),
        pytest.param({"a": 1}, [op("move", "/a", from_="/a")], {"a": 1}, id="move to where it is"),
        pytest.param({"a": 1}, [op("test", "/a", value=1.0)], {"a": 1}, id="numbers are equal by value"),
    ],
)
def test_a_patch_makes_of_a_tree(tree: Any, patch: Any, expected: Any) -> None:
    before = copy.deepcopy(tree)
    assert json_patch.apply(tree, patch) == expected
    assert tree == before


@pytest.mark.parametrize(
    ("patch", "says"),
    [
        ([op("test", "/a", value=2)], r"patch\[0\] \(test /a\): it is 1, not 2"),
        ([op("add", "/b", value=1), op("test", "/a", value=True)], r"patch\[1\] \(test /a\): it is 1, not true"),
        ([op("test", "/list", value=[0, 1])], r"it is \[1, 2\], not \[0, 1\]"),
    ],
)
def test_a_test_that_does_not_hold_is_a_failed_precondition_that_names_it(patch: Any, says: str) -> None:
    with pytest.raises(errors.PreconditionFailed, match=says):
        json_patch.apply({"a": 1, "list": [1, 2]}, patch)


@pytest.mark.parametrize(
    ("operation", "says"),
    [
        (op("remove", "/b"), 'there is no "b"'),
        (op("replace", "/b", value=1), 'there is no "b"'),
        (op("add", "/b/c", value=1), 'there is no "b"'),
        (op("test", "/b", value=1), 'there is no "b"'),
        (op("copy", "/x", from_="/b"), 'there is no "b"'),
        (op("add", "/a/c", value=1), "/a is 1, which has nothing in it"),
        (op("add", "/list/3", value=1), "there is no item 3"),
        (op("add", "/list/01", value=1), "no index"),
        (op("add", "/list/-1", value=1), "no index"),
        (op("remove", "/list/-"), "behind the last"),
        (op("remove", "/list/2"), "there is no item 2"),
        (op("remove", ""), "delete it instead"),
        (op("move", "/map/x/y", from_="/map/x"), "into itself"),
        (op("move", "/x", from_="/b"), 'there is no "b"'),
        (op("add", "b", value=1), "JSON pointer"),
        (op("add", "/~2", value=1), "JSON pointer"),
        (op("add", 5, value=1), "JSON pointer"),  # type: ignore[arg-type]
        (op("add", "/b"), '"value" is missing'),
        (op("copy", "/b"), '"from" is missing'),
        ({"op": "remove"}, '"path" is missing'),
        ({"path": "/a"}, '"op" is missing'),
        (op("increment", "/a"), "op must be one of"),
        ({"op": [], "path": "/a"}, "op must be one of"),
        ("remove", "must be an object"),
    ],
)
def test_what_an_operation_cannot_do_is_said_with_its_number_and_path(operation: Any, says: str) -> None:
    with pytest.raises(errors.Invalid) as caught:
        json_patch.apply({"a": 1, "list": [1, 2], "map": {"x": {}}}, [op("test", "/a", value=1), operation])
    (error,) = caught.value.errors
    assert error.path.startswith("patch[1]")
    assert says in error.message
    if isinstance(operation, dict) and "path" in operation:
        assert str(operation["path"]) in error.path


def test_a_patch_that_fails_half_way_changes_nothing() -> None:
    tree = {"a": {"b": 1}}
    with pytest.raises(errors.Invalid):
        json_patch.apply(tree, [op("remove", "/a/b"), op("remove", "/a/b")])
    assert tree == {"a": {"b": 1}}


def test_an_operations_value_is_not_changed_by_the_next_operation() -> None:
    patch = [op("add", "/a", value={}), op("add", "/a/b", value=1)]
    assert json_patch.apply({}, patch) == {"a": {"b": 1}}
    assert json_patch.apply({}, patch) == {"a": {"b": 1}}
    assert patch[0]["value"] == {}


def test_a_patch_is_a_list_and_has_an_end() -> None:
    with pytest.raises(errors.Invalid, match="list of operations"):
        json_patch.apply({}, {"op": "remove"})
    with pytest.raises(errors.Invalid, match="10001 operations"):
        json_patch.apply({}, [op("add", "/a", value=1)] * 10_001)


def test_copies_that_double_the_tree_are_stopped() -> None:
    patch = [op("add", "/0", value="x" * 1000)] + [op("copy", f"/{n}", from_="") for n in range(1, 40)]
    with pytest.raises(errors.Invalid, match="copies"):
        json_patch.apply({}, patch)
