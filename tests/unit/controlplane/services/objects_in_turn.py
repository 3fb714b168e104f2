"""An object as it goes from one writer to the next, with no server around it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from controlplane.services import applying, field_ownership, lifecycle
from podwire import manifest, v1
from podwire.defaults import apply_defaults
from podwire.kinds import Kind


class InTurn:
    """One object of a kind. Each write happens a second after the one before."""

    def __init__(self, kind: Kind, obj: Any = None) -> None:
        self.kind = kind
        self.obj = obj
        self.writes = 0

    def apply(self, fields: Mapping[str, Any], manager: str = "podctl", *, force: bool = False) -> Any:
        """Raises what the server would answer."""
        request = v1.ApplyRequest(manifest=_manifest(self.kind, fields), field_manager=manager, force=force)
        applied = applying.read(self.kind, request)
        if self.obj is None:
            self.obj = self._new(applying.new_object(applied, self._now()))
        else:
            self.obj = applying.merged_object(applied, self.obj, self._now())
        return self.obj

    def create(self, fields: Mapping[str, Any], manager: str = "") -> Any:
        obj = manifest.from_tree(self.kind, json.loads(_manifest(self.kind, fields)))
        field_ownership.begin(self.kind, obj, manager, self._now())
        self.obj = self._new(obj)
        return self.obj

    def update(self, fields: Mapping[str, Any], manager: str = "unknown") -> Any:
        """Replaces the object by one with these fields."""
        new = manifest.from_tree(self.kind, json.loads(_manifest(self.kind, fields)))
        lifecycle.prepare_update(self.kind, self.obj, new)
        field_ownership.updated(self.kind, self.obj, new, manager, self._now())
        self.obj = new
        return new

    @property
    def tree(self) -> dict[str, Any]:
        return dict(field_ownership.tracked(field_ownership.tree_of(self.kind, self.obj)))

    @property
    def owners(self) -> list[tuple[str, str]]:
        return [(entry.manager, entry.operation) for entry in self.obj.metadata.managed_fields]

    def _new(self, obj: Any) -> Any:
        obj.metadata.creation_timestamp.CopyFrom(self._now())
        apply_defaults(self.kind, obj)
        return obj

    def _now(self) -> Timestamp:
        self.writes += 1
        return Timestamp(seconds=1_000 + self.writes)


def _manifest(kind: Kind, fields: Mapping[str, Any]) -> bytes:
    metadata = {"name": "x", **fields.get("metadata", {})}
    head = {"apiVersion": kind.api_version, "kind": kind.name}
    return json.dumps({**fields, **head, "metadata": metadata}).encode()
