"""The formats of `-o` that show whole objects: yaml, json, name and jsonpath."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from podctl import jsonpath
from podctl.failures import UsageError
from podctl.naming import qualified
from podwire import manifest
from podwire.kinds import Kind

FORMATS: Final = ("wide", "yaml", "json", "name", "jsonpath=TEMPLATE")


def check_format(text: str) -> None:
    """Empty is the table."""
    if text and not text.startswith("jsonpath=") and text not in FORMATS:
        raise UsageError(f'unknown output format "{text}": {", ".join(FORMATS)}')


def is_table(text: str) -> bool:
    return text in ("", "wide")


def render(text: str, objects: Sequence[tuple[Kind, Any]], *, single: bool, show_managed_fields: bool = False) -> str:
    """The objects in the format `text`; `single` is whether one was asked for by name, which then stands alone."""
    if text == "name":
        return "".join(f"{qualified(kind, obj.metadata.name)}\n" for kind, obj in objects)
    trees = [manifest.to_tree(kind, obj) for kind, obj in objects]
    if not show_managed_fields:
        for tree in trees:
            tree.get("metadata", {}).pop("managedFields", None)
    if single and len(trees) == 1:
        tree = trees[0]
    else:
        tree = {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": trees}
    match text:
        case "yaml":
            return manifest.dump([tree])
        case "json":
            return json.dumps(tree, indent=4, ensure_ascii=False) + "\n"
    return jsonpath.render(text.removeprefix("jsonpath="), tree)
