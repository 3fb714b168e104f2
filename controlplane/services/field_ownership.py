"""Who owns which fields of an object: what metadata.managedFields says, and how writes change it. No I/O.

As in Kubernetes, an owner is a manager with an operation. Apply owns what the manager's last manifest set; Update owns
what its other writes changed, until somebody else changes it. What the server fills in by itself belongs to nobody.

Two things differ, both so that nobody pays or stumbles for nothing (docs/decisions/0009-field-ownership.md):
an object keeps no record before its first Apply, or a Create that names its manager; and the Updates of a manager's own
family (`podctl-scale` for one who applies as `podctl`) are not others': its Apply takes their fields over.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from google.protobuf.descriptor import Descriptor
from google.protobuf.timestamp_pb2 import Timestamp

from controlplane.services import field_sets
from controlplane.services.field_sets import NOTHING, FieldSet, Path, Tree
from podwire import errors, manifest, v1
from podwire.kinds import Kind

APPLY: Final = "Apply"
UPDATE: Final = "Update"
# Owns what was there when the first Apply came to an object without a record.
BEFORE_FIRST_APPLY: Final = "before-first-apply"
# Kubernetes' limits: of a name, and of the Update entries of an object, beyond which the oldest are joined.
LONGEST_NAME: Final = 128
MOST_UPDATERS: Final = 10
ANCIENT: Final = "ancient-changes"

_FIELDS_TYPE: Final = "FieldsV1"
# The rest of metadata is the server's, or names the object.
TRACKED_METADATA: Final = ("labels", "annotations", "ownerReferences", "finalizers")


@dataclass(frozen=True, slots=True)
class Owner:
    manager: str
    operation: str

    def has_in_family(self, other: Owner) -> bool:
        """Whether `other` is this one, or an updater that belongs to it."""
        if other.operation != UPDATE or other.manager in (BEFORE_FIRST_APPLY, ANCIENT):
            return other == self
        return other.manager == self.manager or other.manager.startswith(f"{self.manager}-")


@dataclass(frozen=True, slots=True)
class _Owned:
    fields: FieldSet
    entry: v1.ManagedFieldsEntry


def check_manager(name: str) -> None:
    """Raises Invalid where nobody can be called so."""
    if len(name) > LONGEST_NAME or not name.isprintable():
        wrong = errors.FieldError("fieldManager", f"must be at most {LONGEST_NAME} printable characters")
        raise errors.Invalid.fields("the request", [wrong])


def tree_of(kind: Kind, obj: Any) -> dict[str, Any]:
    """The tree of `obj` without its status and its record: what a merge works on."""
    bare = _bare(kind, obj)
    tree = manifest.to_tree(kind, bare)
    for name in ("apiVersion", "kind"):
        del tree[name]
    return tree


def tracked(tree: Tree) -> Tree:
    """Of the tree of an object what has owners: all but its identity, and what the server keeps."""
    metadata = tree.get("metadata", {})
    fields = {name: metadata[name] for name in TRACKED_METADATA if name in metadata}
    rest = {name: value for name, value in tree.items() if name != "metadata"}
    return {"metadata": fields, **rest} if fields else rest


def _bare(kind: Kind, obj: Any) -> Any:
    """A copy without status and record, which take long to make trees of."""
    bare: Any = kind.message()
    bare.CopyFrom(obj)
    bare.metadata.ClearField("managed_fields")
    if kind.has_status:
        bare.ClearField("status")
    return bare


def descriptor_of(kind: Kind) -> Descriptor:
    return cast(Descriptor, kind.message.DESCRIPTOR)


class Ownership:
    """The owners of the fields of one object."""

    def __init__(self, kind: Kind, entries: Iterable[v1.ManagedFieldsEntry] = ()) -> None:
        self._kind = kind
        self._owned: dict[Owner, _Owned] = {}
        for entry in entries:
            if entry.operation in (APPLY, UPDATE):
                fields = field_sets.from_fields_v1(entry.fields_v1)
                self._owned[Owner(entry.manager, entry.operation)] = _Owned(fields, entry)

    def __bool__(self) -> bool:
        return bool(self._owned)

    def of(self, owner: Owner) -> FieldSet:
        return self._owned[owner].fields if owner in self._owned else NOTHING

    def besides(self, owner: Owner) -> FieldSet:
        """What all the others own."""
        return NOTHING.union(*(owned.fields for other, owned in self._owned.items() if other != owner))

    def conflicts(self, owner: Owner, fields: FieldSet) -> list[tuple[Path, Owner]]:
        """Those of `fields` that others own, who are no family of `owner`, in the order of paths."""
        return sorted(
            (
                (path, other)
                for other, owned in self._owned.items()
                for path in owned.fields & fields
                if not owner.has_in_family(other)
            ),
            key=lambda conflict: (conflict[0], conflict[1].manager),
        )

    def give(self, owner: Owner, fields: FieldSet, now: Timestamp) -> None:
        """`fields` are what `owner` has from now on; its time is that of the last change.

        Who applies stays in the record without fields too (Kubernetes drops it): it says that the object was applied.
        """
        if owner in self._owned and fields == self.of(owner):
            return
        if not fields and owner.operation == UPDATE:
            self._owned.pop(owner, None)
            return
        entry = v1.ManagedFieldsEntry(
            manager=owner.manager,
            operation=owner.operation,
            api_version=self._kind.api_version,
            time=now,
            fields_type=_FIELDS_TYPE,
        )
        entry.fields_v1.update(field_sets.to_fields_v1(fields))
        self._owned[owner] = _Owned(fields, entry)

    def take(self, fields: FieldSet, now: Timestamp, *, but: Owner) -> None:
        """All owners lose `fields`, except one."""
        for other in [other for other in self._owned if other != but]:
            self.give(other, self.of(other) - fields, now)

    def take_in_family(self, owner: Owner, fields: FieldSet, now: Timestamp) -> None:
        for other in [other for other in self._owned if other != owner and owner.has_in_family(other)]:
            self.give(other, self.of(other) - fields, now)

    def join_the_oldest(self, now: Timestamp) -> None:
        """Bounds the record of an object that ever new managers update."""
        ancient = Owner(ANCIENT, UPDATE)
        updaters = [owner for owner in self._in_order() if owner.operation == UPDATE and owner != ancient]
        if len(updaters) + (ancient in self._owned) <= MOST_UPDATERS:
            return
        old = updaters[: len(updaters) - MOST_UPDATERS + 1]
        joined = self.of(ancient).union(*(self.of(owner) for owner in old))
        for owner in old:
            del self._owned[owner]
        self.give(ancient, joined, now)

    def entries(self) -> list[v1.ManagedFieldsEntry]:
        """In Kubernetes' order: Apply before Update, then by time, then by name."""
        return [self._owned[owner].entry for owner in self._in_order()]

    def _in_order(self) -> list[Owner]:
        def rank(owner: Owner) -> tuple[str, int, str]:
            return owner.operation, self._owned[owner].entry.time.seconds, owner.manager

        return sorted(self._owned, key=rank)


def begin(kind: Kind, obj: Any, manager: str, now: Timestamp) -> None:
    """For an object that a client creates: the record begins with it where it names its manager.

    Who names none pays for no record.
    """
    check_manager(manager)
    del obj.metadata.managed_fields[:]
    if manager:
        ownership = Ownership(kind)
        fields = field_sets.fields_in(descriptor_of(kind), tracked(tree_of(kind, obj)))
        ownership.give(Owner(manager, UPDATE), fields, now)
        write(obj, ownership)


def updated(kind: Kind, old: Any, new: Any, manager: str, now: Timestamp) -> None:
    """For every write of a client that is no Apply: what it changes is its manager's, in the record of `new`.

    It costs nothing where the object has no record.
    """
    check_manager(manager)
    if not new.metadata.managed_fields:
        return
    before, after = tracked(tree_of(kind, old)), tracked(tree_of(kind, new))
    changes = field_sets.changes(descriptor_of(kind), before, after)
    if not changes.all:
        return
    owner = Owner(manager, UPDATE)
    ownership = Ownership(kind, new.metadata.managed_fields)
    ownership.take(changes.all, now, but=owner)
    ownership.give(owner, (ownership.of(owner) | changes.changed) - changes.removed, now)
    ownership.join_the_oldest(now)
    write(new, ownership)


def before_first_apply(kind: Kind, current: Any, now: Timestamp) -> Ownership:
    """The record of an object that is applied, begun where there is none."""
    ownership = Ownership(kind, current.metadata.managed_fields)
    if not ownership:
        fields = field_sets.fields_in(descriptor_of(kind), tracked(tree_of(kind, current)))
        ownership.give(Owner(BEFORE_FIRST_APPLY, UPDATE), fields, now)
    return ownership


def write(obj: Any, ownership: Ownership) -> None:
    entries = ownership.entries()
    del obj.metadata.managed_fields[:]
    obj.metadata.managed_fields.extend(entries)


def is_reset(entries: Sequence[v1.ManagedFieldsEntry]) -> bool:
    """Whether what a client sent ends the record: as in Kubernetes a list of one empty entry.

    An empty list does not, so that clients who do not know the field do not end it by accident.
    """
    return len(entries) == 1 and entries[0] == v1.ManagedFieldsEntry()
