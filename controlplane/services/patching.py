"""Patch: a change of some fields, on the tree of the manifest, where absent and empty differ; never on messages.

The patched tree is read as strictly as any manifest, and what it says then happens as with an Update. With the
subresource `status` nothing but the status changes; without it the status does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from controlplane.services import json_patch, json_text, lifecycle, merge_patch
from podwire import errors, manifest, v1
from podwire.keys import join_key, key_of
from podwire.kinds import Kind

STATUS: Final = "status"
_TYPES: Final[Mapping[str, Callable[[Any, Any], Any]]] = {"merge": merge_patch.apply, "json": json_patch.apply}


@dataclass(frozen=True, slots=True)
class Patch:
    """A request that was understood: which object it is about, and how its tree changes."""

    kind: Kind
    key: str
    change: Callable[[Any, Any], Any]
    content: Any
    of_status: bool

    def patched(self, current: Any) -> Any:
        """The next state of `current`."""
        kind = self.kind
        try:
            tree = self.change(manifest.to_tree(kind, current), self.content)
            if not isinstance(tree, dict):
                raise errors.Invalid(f"the patch makes {lifecycle.describe(kind, key_of(current))} no object")
            sent = manifest.from_tree(kind, tree, ignore_status=not self.of_status)
        except RecursionError:
            raise errors.Invalid("the patch is nested too deeply") from None
        if self.of_status:
            return lifecycle.with_status(kind, current, sent)
        lifecycle.prepare_update(kind, current, sent)
        return sent


def read(kind: Kind, request: v1.PatchRequest) -> Patch:
    if not request.name:
        raise errors.Invalid("a patch needs a name")
    change = _TYPES.get(request.type)
    if change is None:
        raise errors.Invalid(
            f'type must be "merge" (an object, RFC 7386) or "json" (operations, RFC 6902), not "{request.type}"'
        )
    if request.subresource not in ("", STATUS):
        raise errors.Invalid(f'subresource must be empty or "{STATUS}", not "{request.subresource}"')
    if request.subresource and not kind.has_status:
        raise errors.Invalid(f"a {kind.name} has no status to patch")
    content = json_text.parse(request.patch, "the patch")
    if request.type == "merge" and not isinstance(content, dict):
        raise errors.Invalid('a merge patch must be an object, as in {"spec": {"replicas": 3}}')
    namespace = (request.namespace or lifecycle.DEFAULT_NAMESPACE) if kind.namespaced else ""
    return Patch(kind, join_key(namespace, request.name), change, content, bool(request.subresource))
