"""`podctl diff`: what apply would change, by a dry run of it on the server."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from podctl import manifests
from podctl.naming import qualified
from podctl.session import Session, complain
from podwire import errors, kinds, manifest
from podwire.kinds import Kind
from podwire.manifest import Document

_DIFFERENT: Final = 1
# As kubectl: more than 1, so that scripts tell it from a difference.
_FAILED: Final = 2
# The server's own, which say nothing about what the user asked for.
_BOOKKEEPING: Final = ("creationTimestamp", "generation", "resourceVersion", "uid")

Tree = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """What the options say."""

    files: Sequence[str]
    recursive: bool
    field_manager: str
    force: bool
    show_managed_fields: bool


async def diff(session: Session, request: Request) -> int:
    documents = manifests.read_valid(
        request.files, session.namespace, recursive=request.recursive, explicit=session.explicit
    )
    status = 0
    for document in documents:
        try:
            live, merged = await _states(session, document, request)
        except errors.Unavailable:
            raise
        except errors.PodwireError as error:
            status = complain(document.located(error) if isinstance(error, errors.Invalid) else error, _FAILED)
            continue
        text = difference(document.kind, live, merged, show_managed_fields=request.show_managed_fields)
        sys.stdout.write(text)
        if text:
            status = max(status, _DIFFERENT)
    return status


async def _states(session: Session, document: Document, request: Request) -> tuple[Any | None, Any]:
    """The object as it is, None where there is none, and as it would be."""
    client = session.client.kind(document.kind)
    namespace = manifests.namespace_of(document, session.namespace)
    live: Any | None = None
    try:
        live = await client.get(manifests.name_of(document), namespace=namespace)
    except errors.NotFound:
        pass
    applied = await client.apply(
        document.tree, namespace=namespace, field_manager=request.field_manager, force=request.force, dry_run=True
    )
    return live, applied.object


def difference(kind: Kind, live: Any | None, merged: Any, *, show_managed_fields: bool = False) -> str:
    """A unified diff, empty where nothing differs."""
    before = {} if live is None else _shown(kind, live, show_managed_fields)
    after = _shown(kind, merged, show_managed_fields)
    if kind is kinds.SECRET:
        _mask(before, after)
    name = qualified(kind, merged.metadata.name)
    lines = difflib.unified_diff(_lines(before), _lines(after), f"live/{name}", f"merged/{name}")
    return "".join(lines)


def _shown(kind: Kind, obj: Any, show_managed_fields: bool) -> Tree:
    tree = manifest.to_tree(kind, obj)
    hidden = _BOOKKEEPING if show_managed_fields else (*_BOOKKEEPING, "managedFields")
    for name in hidden:
        tree["metadata"].pop(name, None)
    return tree


def _mask(before: Tree, after: Tree) -> None:
    """Says of a secret's values which differ, and not what they are."""
    old, new = before.get("data", {}), after.get("data", {})
    for key in old.keys() | new.keys():
        differs = key in old and key in new and old[key] != new[key]
        for values, which in ((old, " (before)"), (new, " (after)")):
            if key in values:
                values[key] = f"***{which}" if differs else "***"


def _lines(tree: Tree) -> list[str]:
    return manifest.dump([tree]).splitlines(keepends=True) if tree else []
