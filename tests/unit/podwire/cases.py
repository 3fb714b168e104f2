"""Rules as tables: a change to an object that is right, and below it the error it leads to, or `ok`."""

import copy
import re
from typing import Any

import yaml

from podwire import manifest
from podwire.defaults import apply_defaults
from podwire.kinds import Kind
from podwire.validation import validate

METADATA: dict[str, Any] = {"name": "web", "namespace": "default"}
CONTAINER: dict[str, Any] = {"name": "web", "image": "nginx:1.25"}
POD: dict[str, Any] = {"metadata": METADATA, "spec": {"containers": [CONTAINER]}}
TEMPLATE: dict[str, Any] = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [CONTAINER]}}
WORKLOAD: dict[str, Any] = {
    "metadata": METADATA,
    "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": TEMPLATE},
}
SERVICE: dict[str, Any] = {"metadata": METADATA, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}


def table(text: str) -> list[tuple[str, str]]:
    """(change, error) of each pair of lines; the error is empty for `ok`."""
    lines = [line.strip() for line in text.strip().splitlines()]
    return [(change, "" if says == "ok" else says) for change, says in zip(lines[::2], lines[1::2], strict=True)]


def made(kind: Kind, tree: dict[str, Any]) -> Any:
    """The message that `tree` describes, with its defaults."""
    message = manifest.from_tree(kind, tree)
    apply_defaults(kind, message)
    return message


def changed(tree: dict[str, Any], path: str, change: str) -> dict[str, Any]:
    """`tree` with the fields in `change` (YAML) set at `path`, as in spec.containers[0]."""
    tree = copy.deepcopy(tree)
    inner: Any = tree
    for name, index in re.findall(r"([^.[\]]+)|\[(\d+)\]", path):
        inner = inner[int(index)] if index else inner.setdefault(name, {})
    inner.update(yaml.safe_load(change))
    return tree


def problems(kind: Kind, tree: dict[str, Any]) -> list[str]:
    return [str(error) for error in validate(kind, made(kind, tree))]


def check(kind: Kind, tree: dict[str, Any], path: str, case: tuple[str, str]) -> None:
    """The change at `path` leads to one error, at a path below it, that begins as told; `…` stands for anything."""
    change, says = case
    found = problems(kind, changed(tree, path, change))
    if not says:
        assert found == []
        return
    pattern = ".*".join(re.escape(part) for part in f"{path}.{says}".removeprefix(".").split("…"))
    assert len(found) == 1, found
    assert re.match(pattern, found[0]), found[0]
