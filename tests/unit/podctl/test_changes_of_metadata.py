"""What `podctl label` and `podctl patch` make of their command lines."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from podctl import labelling, patching
from podctl.failures import CommandError, UsageError
from podctl.labelling import ANNOTATIONS, LABELS, Changes, Field


def test_changes_stand_behind_the_objects_that_they_are_for() -> None:
    words, changes = labelling.split_changes(["pod", "web", "a=1", "example.com/b-", "c=x-", "d="], LABELS)
    assert words == ["pod", "web"]
    assert changes == {"a": "1", "example.com/b": None, "c": "x-", "d": ""}


@pytest.mark.parametrize(
    "words", [["pod", "web"], ["pod", "web", "a=1", "b"], ["pod", "web", "a=1", "a-"]], ids=" ".join
)
def test_a_command_line_without_clear_changes_is_refused(words: list[str]) -> None:
    with pytest.raises(UsageError):
        labelling.split_changes(words, LABELS)


@pytest.mark.parametrize(
    ("before", "changes", "field", "says"),
    [
        ({}, {"a": "1"}, LABELS, "labeled"),
        ({"a": "1"}, {"a": "1"}, LABELS, "not labeled"),
        ({"a": "1"}, {"a": None}, LABELS, "unlabeled"),
        ({}, {"a": None}, LABELS, "not labeled"),
        ({"a": "1"}, {"a": None, "b": "2"}, LABELS, "labeled"),
        ({"a": "1"}, {"a": "1"}, ANNOTATIONS, "annotated"),
    ],
)
def test_what_was_done_is_said_in_kubectls_words(
    before: Mapping[str, str], changes: Changes, field: Field, says: str
) -> None:
    assert labelling.outcome(before, changes, field) == says


def request(type_: str, patch: str) -> patching.Request:
    return patching.Request(["pod", "web"], type_, patch)


def test_a_patch_may_be_json_or_yaml() -> None:
    assert patching.read_patch(request("merge", '{"spec": {"replicas": 3}}')) == {"spec": {"replicas": 3}}
    assert patching.read_patch(request("merge", "spec: {replicas: null}")) == {"spec": {"replicas": None}}
    assert patching.read_patch(request("json", "- {op: remove, path: /a}")) == [{"op": "remove", "path": "/a"}]


@pytest.mark.parametrize(
    ("type_", "patch", "error", "says"),
    [
        ("strategic", "{}", UsageError, "--type=merge"),
        ("merge", "", UsageError, "-p PATCH"),
        ("merge", "[]", CommandError, "must be an object"),
        ("json", "{}", CommandError, "list of operations"),
        ("merge", "a: 1\n---\nb: 2", CommandError, "one document"),
    ],
)
def test_a_patch_of_another_form_says_what_to_do(type_: str, patch: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        patching.read_patch(request(type_, patch))
