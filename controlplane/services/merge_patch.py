"""JSON merge patches (RFC 7386): what the patch names is set, what it names as null goes, lists are replaced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def apply(tree: Any, patch: Any) -> Any:
    """What `patch` makes of `tree`, which stays as it is."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(tree) if isinstance(tree, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = apply(merged.get(name), value)
    return merged
