"""What holds for every series of applies, whoever applies what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from controlplane.services.field_ownership import descriptor_of, tree_of
from controlplane.services.field_sets import changes, fields_in
from podwire import errors, kinds
from podwire.kinds import Kind
from tests.unit.controlplane.services.objects_in_turn import InTurn
from tests.unit.podwire import messages

Tree = dict[str, Any]
Trees = st.SearchStrategy[Tree]

# The same examples in every run, and no judgement of how fast a busy machine draws them.
FEW = settings(
    max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=(HealthCheck.too_slow,)
)
VALUES = st.sampled_from(["1", "2"])


def some(**fields: st.SearchStrategy[Any]) -> Trees:
    """Any of these fields, and nothing that is empty: an empty list or map is an absent one."""
    return st.fixed_dictionaries({}, optional=fields).map(
        lambda tree: {name: value for name, value in tree.items() if value not in ([], {})}
    )


def items(key: str, names: list[Any], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Tree]]:
    return st.lists(
        st.builds(lambda name, rest: {**rest, key: name}, st.sampled_from(names), some(**fields)),
        max_size=3,
        unique_by=lambda item: item[key],
    )


TEXTS = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)
META = some(labels=TEXTS, annotations=TEXTS, finalizers=st.lists(st.sampled_from(["x.io/a", "x.io/b"]), unique=True))
CONTAINERS = items(
    "name",
    ["a", "b", "c"],
    image=VALUES,
    args=st.lists(VALUES, min_size=1, max_size=2),
    env=items("name", ["A", "B"], value=VALUES),
    ports=items("containerPort", [80, 81], name=VALUES),
    resources=some(limits=st.dictionaries(st.sampled_from(["cpu", "memory"]), VALUES)),
)
POD_SPEC = some(containers=CONTAINERS, nodeSelector=TEXTS, terminationGracePeriodSeconds=st.integers(1, 2))
MANIFESTS: list[tuple[Kind, Trees]] = [
    (kinds.CONFIG_MAP, some(metadata=META, data=TEXTS)),
    (
        kinds.DEPLOYMENT,
        some(
            metadata=META,
            spec=some(replicas=st.integers(0, 2), template=some(spec=POD_SPEC, metadata=some(labels=TEXTS))),
        ),
    ),
    (
        kinds.SERVICE,
        some(spec=some(selector=TEXTS, ports=items("port", [80, 81], name=VALUES, targetPort=st.integers(80, 81)))),
    ),
]

Property = Callable[[Kind, Trees, st.DataObject], None]


def of_every_kind(check: Property) -> Any:
    @pytest.mark.parametrize(("kind", "manifests"), MANIFESTS, ids=[kind.name for kind, _ in MANIFESTS])
    @FEW
    @given(drawn=st.data())
    def test(kind: Kind, manifests: Trees, drawn: st.DataObject) -> None:
        check(kind, manifests, drawn)

    return test


def agrees(kind: Kind, tree: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    """Whether `live` has everything that `tree` sets, with the same values."""
    descriptor = descriptor_of(kind)
    between = changes(descriptor, tree, live)
    return not (between.changed | between.removed) & fields_in(descriptor, tree)


def in_turn(kind: Kind, drawn: st.DataObject, manifests: Trees, managers: str = "bc") -> InTurn:
    """An object after some forced applies of others."""
    it = InTurn(kind)
    for manager in drawn.draw(st.lists(st.sampled_from(managers), max_size=3), label="managers before"):
        it.apply(drawn.draw(manifests, label=f"applied before by {manager}"), manager, force=True)
    return it


@of_every_kind
def test_an_apply_is_idempotent(kind: Kind, manifests: Trees, drawn: st.DataObject) -> None:
    it = in_turn(kind, drawn, manifests, "abc")
    tree = drawn.draw(manifests)
    once = it.apply(tree, "a", force=True)
    assert it.apply(tree, "a") == once
    assert agrees(kind, tree, it.tree)


@of_every_kind
def test_applying_one_manifest_after_another_equals_applying_the_second_alone(
    kind: Kind, manifests: Trees, drawn: st.DataObject
) -> None:
    first, second = drawn.draw(manifests), drawn.draw(manifests)
    both, alone = InTurn(kind), InTurn(kind)
    both.apply(first, "a")
    both.apply(second, "a")
    alone.apply(second, "a")
    assert agrees(kind, second, both.tree)
    own = fields_in(descriptor_of(kind), first) | fields_in(descriptor_of(kind), alone.tree)
    assert not changes(descriptor_of(kind), alone.tree, both.tree).all & own


@of_every_kind
def test_managers_of_disjoint_fields_never_conflict_and_never_lose_each_others(
    kind: Kind, manifests: Trees, drawn: st.DataObject
) -> None:
    descriptor = descriptor_of(kind)
    mine = drawn.draw(st.lists(manifests, min_size=1, max_size=3))
    theirs = drawn.draw(manifests)
    assume(not any(fields_in(descriptor, tree) & fields_in(descriptor, theirs) for tree in mine))
    it = InTurn(kind)
    it.apply(theirs, "b")
    for tree in mine:
        it.apply(tree, "a")
        assert agrees(kind, theirs, it.tree)
        assert agrees(kind, tree, it.tree)
    before = it.obj
    assert it.apply(theirs, "b") == before


@of_every_kind
def test_an_apply_without_force_never_changes_what_others_own(
    kind: Kind, manifests: Trees, drawn: st.DataObject
) -> None:
    it = in_turn(kind, drawn, manifests)
    theirs, mine = drawn.draw(manifests), drawn.draw(manifests)
    it.apply(theirs, "b", force=True)
    before = it.obj
    try:
        it.apply(mine, "a")
    except errors.FieldConflict as conflict:
        assert it.obj is before
        assert {owner.manager for owner in conflict.owners} <= {"b", "c"}
    assert agrees(kind, theirs, it.tree)


@of_every_kind
def test_what_was_taken_by_force_conflicts_when_the_other_applies_again(
    kind: Kind, manifests: Trees, drawn: st.DataObject
) -> None:
    it = InTurn(kind)
    theirs, mine = drawn.draw(manifests), drawn.draw(manifests)
    it.apply(theirs, "b")
    it.apply(mine, "a", force=True)
    if agrees(kind, theirs, it.tree):
        it.apply(theirs, "b")
        return
    with pytest.raises(errors.FieldConflict) as caught:
        it.apply(theirs, "b")
    assert {owner.manager for owner in caught.value.owners} == {"a"}


@of_every_kind
def test_whoever_leaves_takes_only_what_was_theirs_alone(kind: Kind, manifests: Trees, drawn: st.DataObject) -> None:
    it = in_turn(kind, drawn, manifests, "ab")
    theirs = drawn.draw(manifests)
    it.apply(theirs, "b", force=True)
    it.apply({}, "a")
    assert agrees(kind, theirs, it.tree)
    it.apply({}, "b")
    assert not any(entry.fields_v1.fields for entry in it.obj.metadata.managed_fields)


@of_every_kind
def test_items_come_in_the_order_in_which_they_are_applied(kind: Kind, manifests: Trees, drawn: st.DataObject) -> None:
    if kind is not kinds.DEPLOYMENT:
        return
    it = in_turn(kind, drawn, manifests)
    names = drawn.draw(st.permutations(["a", "b", "c"]))
    containers = [{"name": name} for name in names]
    it.apply({"spec": {"template": {"spec": {"containers": containers}}}}, "a")
    found = [container.name for container in it.obj.spec.template.spec.containers]
    assert [name for name in found if name in names] == names


@pytest.mark.parametrize("kind", [kind for kind in kinds.KINDS if not kind.read_only], ids=lambda kind: kind.name)
@FEW
@given(drawn=st.data())
def test_whatever_is_applied_over_whatever_ends_as_an_object_or_as_an_error_of_ours(
    kind: Kind, drawn: st.DataObject
) -> None:
    manifests = messages.objects(kind).map(lambda obj: tree_of(kind, obj))
    it = InTurn(kind)
    it.create(drawn.draw(manifests))
    for manager in ("a", "b", "a"):
        wanted = drawn.draw(manifests)
        try:
            once = it.apply(wanted, manager, force=drawn.draw(st.booleans()))
            assert it.apply(wanted, manager) == once
        except (errors.Invalid, errors.Conflict, errors.FieldConflict, errors.PreconditionFailed):
            pass
