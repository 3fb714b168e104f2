"""Errors as a person reads them."""

from __future__ import annotations

from podctl.failures import explain
from podwire import errors


def test_a_conflict_lists_every_field_by_owner_and_the_ways_out() -> None:
    owners = [
        errors.FieldOwner("spec.replicas", "autoscaler"),
        errors.FieldOwner("metadata.labels[tier]", "team-b"),
        errors.FieldOwner("spec.paused", "autoscaler"),
    ]
    error = errors.FieldConflict("…", owners, metadata={"kind": "Deployment", "key": "default/web"})
    lines = explain(error).splitlines()
    assert lines[:6] == [
        'error: Deployment "web" was not applied, with 3 conflicts:',
        'conflict with "autoscaler":',
        "  spec.replicas",
        "  spec.paused",
        'conflict with "team-b":',
        "  metadata.labels[tier]",
    ]
    assert sum(line.startswith("* ") for line in lines) == 3
    assert "--force-conflicts" in explain(error)


def test_of_very_many_conflicts_the_last_ones_are_counted() -> None:
    owners = [errors.FieldOwner("data[a]", "team-b"), errors.FieldOwner("and 900 more", "")]
    text = explain(errors.FieldConflict("…", owners, metadata={"kind": "ConfigMap", "key": "default/a"}))
    assert text.startswith(
        'error: ConfigMap "a" was not applied, with many conflicts:\nconflict with "team-b":\n  data[a]\nand 900 more\n'
    )
