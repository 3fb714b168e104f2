"""Who owns what after writes by several managers, and who is told of a conflict."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.services import field_ownership
from podwire import errors, kinds, v1
from tests.unit.controlplane.services.objects_in_turn import InTurn

Tree = dict[str, Any]


def deployment(replicas: int | None = None, image: str = "nginx:1", **container: Any) -> Tree:
    template = {"spec": {"containers": [{"name": "web", "image": image, **container}]}}
    spec: Tree = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    return {"spec": spec if replicas is None else {**spec, "replicas": replicas}}


def data(**values: str) -> Tree:
    return {"data": values}


def labels(**values: str) -> Tree:
    return {"metadata": {"labels": values}}


def owned_by(conflict: pytest.ExceptionInfo[errors.FieldConflict]) -> list[tuple[str, str]]:
    return [(owner.path, owner.manager) for owner in conflict.value.owners]


def test_a_field_that_another_applied_with_another_value_is_a_conflict() -> None:
    it = InTurn(kinds.DEPLOYMENT)
    it.apply(deployment(3, "nginx:1", tty=True), "team-a")
    before = it.obj
    with pytest.raises(errors.FieldConflict) as caught:
        it.apply(deployment(5, "nginx:2"), "team-b")
    assert owned_by(caught) == [
        ("spec.replicas", "team-a"),
        ("spec.template.spec.containers[name=web].image", "team-a"),
    ]
    assert 'Deployment "default/x"' in caught.value.message
    assert it.obj is before


def test_equal_values_are_owned_together_and_stay_until_the_last_owner_leaves_them() -> None:
    it = InTurn(kinds.CONFIG_MAP)
    it.apply(data(a="1", b="2"), "team-a")
    it.apply(data(a="1"), "team-b")
    it.apply(data(b="2"), "team-a")
    assert it.tree == data(a="1", b="2")
    it.apply(data(c="3"), "team-b")
    assert it.tree == data(b="2", c="3")


def test_force_takes_over_and_the_next_apply_of_the_other_conflicts() -> None:
    it = InTurn(kinds.CONFIG_MAP)
    it.apply(data(a="1", b="2"), "team-a")
    it.apply(data(a="9"), "team-b", force=True)
    assert it.tree == data(a="9", b="2")
    with pytest.raises(errors.FieldConflict) as caught:
        it.apply(data(a="1", b="2"), "team-a")
    assert owned_by(caught) == [("data[a]", "team-b")]
    it.apply(data(a="8"), "team-b")
    it.apply(data(b="2"), "team-a")
    assert it.tree == data(a="8", b="2")


def test_what_an_update_changes_belongs_to_it_and_is_taken_from_who_applied_it() -> None:
    it = InTurn(kinds.DEPLOYMENT)
    it.apply(deployment(3), "team-a")
    it.update(deployment(7), "autoscaler")
    with pytest.raises(errors.FieldConflict) as caught:
        it.apply(deployment(3), "team-a")
    assert owned_by(caught) == [("spec.replicas", "autoscaler")]
    it.apply(deployment(), "team-a")
    assert it.obj.spec.replicas == 7


def test_an_update_owns_nothing_that_it_leaves_as_it_is() -> None:
    it = InTurn(kinds.CONFIG_MAP)
    it.apply(data(a="1"), "team-a")
    it.update(data(a="1", b="2"), "writer")
    it.update(data(a="1", b="2"), "reader")
    assert it.owners == [("team-a", "Apply"), ("writer", "Update")]
    it.apply(data(a="2"), "team-a")
    assert it.tree == data(a="2", b="2")


def test_what_an_update_removes_belongs_to_nobody() -> None:
    it = InTurn(kinds.CONFIG_MAP)
    it.apply(data(a="1", b="2"), "team-a")
    it.update(data(a="1"), "writer")
    it.apply(data(b="3"), "team-b")
    it.apply(data(a="1"), "team-a")
    assert it.tree == data(a="1", b="3")
    it.update(data(a="1", b="3", c="4"), "writer")
    it.update(data(a="1", b="3"), "writer")
    assert it.owners == [("team-a", "Apply"), ("team-b", "Apply")]


def test_the_updates_of_the_managers_own_family_are_no_conflict() -> None:
    it = InTurn(kinds.DEPLOYMENT)
    it.apply(deployment(3))
    it.update(deployment(7), "podctl-scale")
    it.apply(deployment(3))
    assert it.obj.spec.replicas == 3
    assert it.owners == [("podctl", "Apply")]


def test_a_count_that_was_scaled_stays_where_the_manifest_does_not_say_it() -> None:
    it = InTurn(kinds.DEPLOYMENT)
    it.apply(deployment(3))
    it.update(deployment(7), "podctl-scale")
    it.apply(deployment(image="nginx:2"))
    assert it.obj.spec.replicas == 7


def test_what_the_family_made_goes_once_it_was_applied_and_no_longer_is() -> None:
    it = InTurn(kinds.CONFIG_MAP)
    it.create(data(a="1", b="2", c="3"), "podctl-create")
    it.apply(data(a="1", b="2"))
    it.apply(data(a="9"))
    assert it.tree == data(a="9", c="3")


@pytest.mark.parametrize("other", ["podctl-ci", "podctlx", "pod"])
def test_another_applier_is_no_family_whatever_its_name(other: str) -> None:
    it = InTurn(kinds.CONFIG_MAP)
    it.apply(data(a="1"), other)
    with pytest.raises(errors.FieldConflict):
        it.apply(data(a="2"))


def test_what_was_there_before_belongs_to_no_family() -> None:
    it = InTurn(kinds.CONFIG_MAP)
    it.create(data(a="1"))
    with pytest.raises(errors.FieldConflict):
        it.apply(data(a="2"), "before")


def test_an_object_that_was_never_applied_keeps_no_record() -> None:
    it = InTurn(kinds.CONFIG_MAP)
    it.create(data(a="1"))
    it.update(data(a="2"), "writer")
    assert it.owners == []


def test_what_was_there_before_the_first_apply_has_an_owner() -> None:
    it = InTurn(kinds.DEPLOYMENT)
    it.create(deployment(3))
    with pytest.raises(errors.FieldConflict) as caught:
        it.apply(deployment(5))
    assert owned_by(caught) == [("spec.replicas", field_ownership.BEFORE_FIRST_APPLY)]
    it.apply(deployment(3))
    it.apply(deployment())
    assert it.obj.spec.replicas == 3


def test_a_create_that_names_its_manager_begins_the_record() -> None:
    it = InTurn(kinds.CONFIG_MAP)
    it.create(data(a="1"), "importer")
    with pytest.raises(errors.FieldConflict) as caught:
        it.apply(data(a="2"))
    assert owned_by(caught) == [("data[a]", "importer")]


def test_a_default_that_nobody_set_is_no_conflict() -> None:
    it = InTurn(kinds.DEPLOYMENT)
    it.apply(deployment(), "team-a")
    assert it.obj.spec.replicas == 1
    it.apply(deployment(5), "team-b")
    assert it.obj.spec.replicas == 5


def test_a_choice_that_drops_what_another_owns_is_a_conflict() -> None:
    it = InTurn(kinds.DEPLOYMENT)
    it.apply(deployment(), "team-a")
    it.apply({"spec": {"strategy": {"rollingUpdate": {"maxSurge": 1}}}}, "team-b")
    with pytest.raises(errors.FieldConflict) as caught:
        it.apply({"spec": {"strategy": {"type": "Recreate"}}}, "team-c")
    assert owned_by(caught) == [("spec.strategy.rollingUpdate.maxSurge", "team-b")]


def test_items_of_two_managers_stay_in_their_order() -> None:
    it = InTurn(kinds.DEPLOYMENT)
    it.apply(deployment(), "team-a")
    sidecar = {"spec": {"template": {"spec": {"containers": [{"name": "sidecar", "image": "proxy:1"}]}}}}
    it.apply(sidecar, "team-b")
    both = it.obj
    it.apply(deployment(), "team-a")
    assert it.obj == both
    it.apply(sidecar, "team-b")
    assert it.obj == both
    assert [c.name for c in it.obj.spec.template.spec.containers] == ["web", "sidecar"]


def test_a_second_equal_apply_leaves_the_record_and_its_time_alone() -> None:
    it = InTurn(kinds.DEPLOYMENT)
    first = it.apply(deployment(3))
    assert it.apply(deployment(3)) == first


def test_the_status_is_nobodys() -> None:
    it = InTurn(kinds.DEPLOYMENT)
    it.apply({**deployment(), "status": {"replicas": 9}})
    assert not it.obj.status.replicas
    assert "f:status" not in it.obj.metadata.managed_fields[0].fields_v1


def test_a_clients_copy_of_the_record_changes_nothing() -> None:
    it = InTurn(kinds.CONFIG_MAP)
    it.apply(data(a="1"))
    entry = {"manager": "me", "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {}}}
    it.update({"metadata": {"managedFields": [entry]}, **data(a="1")})
    assert it.owners == [("podctl", "Apply")]


def test_one_empty_entry_ends_the_record_and_an_empty_list_does_not() -> None:
    it = InTurn(kinds.CONFIG_MAP)
    it.apply(data(a="1"))
    it.update({"metadata": {"managedFields": []}, **data(a="1")})
    assert it.owners == [("podctl", "Apply")]
    it.update({"metadata": {"managedFields": [{}]}, **data(a="2")})
    assert it.owners == []


def test_a_record_of_earlier_versions_is_read_and_its_updaters_are_unknown() -> None:
    old = v1.ConfigMap(metadata=v1.ObjectMeta(name="x"), data={"a": "1", "b": "2", "c": "3"})
    entry = old.metadata.managed_fields.add(manager="podctl", operation="Apply", fields_type="FieldsV1")
    entry.fields_v1.update({"f:data": {"f:a": {}, "f:b": {}}})
    it = InTurn(kinds.CONFIG_MAP, old)
    it.apply(data(a="9", c="4"))
    assert it.tree == data(a="9", c="4")
    assert it.owners == [("podctl", "Apply")]


def test_the_oldest_of_many_updaters_are_joined() -> None:
    it = InTurn(kinds.CONFIG_MAP)
    it.apply(data(own="1"))
    values = {"own": "1"}
    for number in range(30):
        values[f"k{number:02}"] = "v"
        it.update(data(**values), f"writer-{number:02}")
    updaters = [manager for manager, operation in it.owners if operation == "Update"]
    assert len(updaters) == field_ownership.MOST_UPDATERS
    assert set(updaters) == {field_ownership.ANCIENT, *(f"writer-{number}" for number in range(21, 30))}
    with pytest.raises(errors.FieldConflict) as caught:
        it.apply(data(own="1", k00="x", k29="x"))
    assert owned_by(caught) == [("data[k00]", field_ownership.ANCIENT), ("data[k29]", "writer-29")]


@pytest.mark.parametrize("name", ["x" * 129, "a\nb", "\x7f"])
def test_a_managers_name_is_short_and_can_be_printed(name: str) -> None:
    it = InTurn(kinds.CONFIG_MAP)
    for write in (it.apply, it.create):
        with pytest.raises(errors.Invalid, match="fieldManager"):
            write(data(a="1"), name)


def test_labels_of_two_managers_are_told_by_their_keys() -> None:
    it = InTurn(kinds.CONFIG_MAP)
    it.apply(labels(tier="a"), "team-a")
    with pytest.raises(errors.FieldConflict) as caught:
        it.apply(labels(tier="b"), "team-b")
    assert owned_by(caught) == [("metadata.labels[tier]", "team-a")]
