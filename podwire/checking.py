"""All that is wrong with an object in a manifest, at once: unknown fields, wrong types, and the rules of its kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from podwire import manifest, validation
from podwire.defaults import apply_defaults
from podwire.errors import FieldError, Invalid
from podwire.manifest import Document
from podwire.tree_codec import suggestion

_DEFAULT_NAMESPACE = "default"


def check(document: Document, namespace: str = "") -> Any:
    """The object with its defaults, in `namespace` where it names none; Invalid has every error with its line."""
    kind = document.kind
    message, unreadable = manifest.read_tree(kind, document.tree, ignore_status=True)
    if kind.namespaced:
        message.metadata.namespace = message.metadata.namespace or namespace or _DEFAULT_NAMESPACE
    apply_defaults(kind, message)
    wrong = [*unreadable, *(e for e in validation.validate(kind, message) if not _follows(e, unreadable))]
    if wrong:
        raise document.located(Invalid.fields(manifest.describe(kind, document.tree), wrong))
    return message


def _follows(error: FieldError, unreadable: Sequence[FieldError]) -> bool:
    """Whether `error` is only there because something could not be read: it is about that, or about what was meant."""
    return any(
        _within(error.path, other.path) or _within(other.path, error.path) or _is_meant(other.path, error.path)
        for other in unreadable
    )


def _within(path: str, around: str) -> bool:
    return path == around or path.startswith((f"{around}.", f"{around}["))


def _is_meant(unknown: str, path: str) -> bool:
    """`imagee` stands where `image` is missing."""
    around, _, name = path.rpartition(".")
    unknown_around, _, unknown_name = unknown.rpartition(".")
    return around == unknown_around and bool(suggestion(unknown_name, [name]))
