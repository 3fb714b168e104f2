"""Owner references: what belonged to an object that is gone is deleted, and what belongs to one that goes is dealt with
as its deletion asked for.

Background: an object goes when none of the owners it names exists any more, each looked for by kind, name and uid.
Foreground: what an owner waits for is deleted, then the owner's finalizer is taken off. Orphan: the references to the
owner are taken off, then its finalizer.

That an owner or a dependent is not in an informer proves nothing (the informer may be behind), so the API is asked
before anything is deleted and before a finalizer goes. All writes name the version that was decided on. Whatever a
leader leaves half done, the next one finds: every step follows from what is there.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, Final, NoReturn

import structlog

from controlplane.controllers import dependents, writing
from controlplane.controllers.dependents import Delete, Detach, Keep, OwnerState
from controlplane.controllers.reconciling import Reconciler
from controlplane.controllers.shared import BY_OWNER, Shared
from podwire import errors, kinds, tree_codec, v1
from podwire.keys import Object, join_key, key_of
from podwire.kinds import Kind
from podwire.propagation import FOREGROUND, FOREGROUND_FINALIZER, ORPHAN_FINALIZER

log = structlog.get_logger(__name__)

# Events are too many to follow, and end by themselves; sessions are the replicas' own.
_FOLLOWED: Final = tuple(kind for kind in kinds.KINDS if kind is not kinds.EVENT and not kind.read_only)
# Seconds until what the API has, but the informer does not show yet, is looked at again.
_LOOK_AGAIN: Final = 5.0

# A kind's name and an object's key.
Item = tuple[str, str]


class Owners:
    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._informers = shared.informers.by_kind()
        self._reconciler: Reconciler[Item] = Reconciler("owners", self._reconcile, workers=8)
        for kind in _FOLLOWED:
            self._informers[kind.name].add_handler(functools.partial(self._changed, kind))

    async def run(self) -> NoReturn:
        await self._reconciler.run()

    def _changed(self, kind: Kind, key: str, old: Any, new: Any) -> None:
        if new is None:
            for dependent_kind, dependent in self._shown_dependents(old):
                self._reconciler.queue.add((dependent_kind.name, key_of(dependent)))
            self._wake_owners(old)
            return
        refs = new.metadata.owner_references
        settled = all(self._shown_state(new, ref) is OwnerState.PRESENT for ref in refs)
        if not settled or dependents.is_waiting(new) or dependents.is_orphaning(new):
            self._reconciler.queue.add((kind.name, key))
        if old is not None and old.metadata.owner_references != refs:
            self._wake_owners(old)

    def _wake_owners(self, dependent: Object) -> None:
        """Its owners that wait for their dependents look whether they still do."""
        for ref in dependent.metadata.owner_references:
            if self._shown_state(dependent, ref) is OwnerState.WAITING:
                self._reconciler.queue.add((ref.kind, _owner_key(dependent, ref)))

    async def _reconcile(self, item: Item) -> None:
        kind = kinds.BY_NAME[item[0]]
        obj = self._informers[kind.name].get(item[1])
        if obj is None:
            return
        if dependents.is_orphaning(obj):
            await self._let_go(kind, obj)
        elif dependents.is_waiting(obj):
            await self._delete_dependents(kind, obj)
        elif obj.metadata.owner_references and not dependents.is_going(obj):
            await self._follow_owners(kind, obj)

    async def _follow_owners(self, kind: Kind, obj: Any) -> None:
        refs = list(obj.metadata.owner_references)
        states = [await self._state(kind, obj, ref) for ref in refs]
        owned = [dependent for _, dependent in self._shown_dependents(obj)]
        match dependents.step_for(refs, states, owns=bool(owned)):
            case Keep():
                return
            case Detach(owners):
                await self._set_owners(kind, obj, owners)
            case Delete(policy):
                if policy == FOREGROUND and any(map(dependents.is_waiting, owned)):
                    await self._set_owners(kind, obj, dependents.unblocking(obj))
                log.info("deleting what has no owner any more", kind=kind.name, key=key_of(obj), policy=policy)
                await writing.delete(self._shared.client.kind(kind), obj, policy=policy, unchanged=True)

    async def _let_go(self, kind: Kind, owner: Any) -> None:
        """Takes off every reference to `owner` that the API shows now, then its finalizer.

        What comes to be owned after that goes with its owner gone: otherwise whoever makes such objects without end
        would keep the owner for ever.
        """
        found = await self._find_dependents(kind, owner)

        async def detach(dependent: tuple[Kind, Any]) -> None:
            await self._set_owners(*dependent, dependents.without(dependent[1], owner.metadata.uid))

        await writing.each(found, detach)
        await self._remove_finalizer(kind, owner, ORPHAN_FINALIZER)

    async def _delete_dependents(self, kind: Kind, owner: Any) -> None:
        """Has everything deleted that belongs to `owner`, and takes its finalizer off once the API shows no more."""
        uid = owner.metadata.uid
        shown = list(self._shown_dependents(owner))
        for dependent_kind, dependent in shown:
            if not dependents.is_going(dependent):
                self._reconciler.queue.add((dependent_kind.name, key_of(dependent)))
        if any(dependents.blocks(dependent, uid) for _, dependent in shown):
            return
        found = await self._find_dependents(kind, owner)
        if any(dependents.blocks(dependent, uid) for _, dependent in found):
            self._reconciler.queue.add_after((kind.name, key_of(owner)), _LOOK_AGAIN)
            return
        await self._remove_finalizer(kind, owner, FOREGROUND_FINALIZER)

    async def _state(self, kind: Kind, obj: Object, ref: v1.OwnerReference) -> OwnerState:
        """What has become of an owner: as the informer shows it, or else as the API has it now."""
        shown = self._shown_state(obj, ref)
        if shown is not OwnerState.GONE:
            return shown
        owner_kind = kinds.BY_NAME[ref.kind]
        namespace = obj.metadata.namespace if owner_kind.namespaced else ""
        try:
            found = await self._shared.client.kind(owner_kind).get(ref.name, namespace=namespace)
        except errors.NotFound:
            return OwnerState.GONE
        if found.metadata.uid != ref.uid:
            return OwnerState.GONE
        self._reconciler.queue.add_after((kind.name, key_of(obj)), _LOOK_AGAIN)
        return dependents.state_of(found)

    def _shown_state(self, obj: Object, ref: v1.OwnerReference) -> OwnerState:
        """GONE where the informer does not show the owner; of a kind that is not ours nobody here can say so."""
        kind = kinds.BY_NAME.get(ref.kind)
        if kind not in _FOLLOWED or ref.api_version != kind.api_version:
            return OwnerState.PRESENT
        if kind.namespaced and not obj.metadata.namespace:
            # An owner in a namespace cannot be meant by an object in none: which one would it be?
            return OwnerState.PRESENT
        found = self._informers[kind.name].get(_owner_key(obj, ref))
        return dependents.state_of(found) if found is not None and found.metadata.uid == ref.uid else OwnerState.GONE

    def _shown_dependents(self, owner: Object) -> Iterator[tuple[Kind, Any]]:
        for kind in _FOLLOWED:
            for dependent in self._informers[kind.name].by_index(BY_OWNER, owner.metadata.uid):
                if dependent.metadata.uid != owner.metadata.uid:
                    yield kind, dependent

    async def _find_dependents(self, kind: Kind, owner: Object) -> list[tuple[Kind, Any]]:
        """All that name `owner`, as the API has them now. It costs lists, which the rare deletions that wait may."""
        uid, namespace = owner.metadata.uid, owner.metadata.namespace
        found: list[tuple[Kind, Any]] = []
        for dependent_kind in _FOLLOWED:
            if kind.namespaced and not dependent_kind.namespaced:
                continue
            listed = await self._shared.client.kind(dependent_kind).list(namespace=namespace)
            found += [
                (dependent_kind, obj)
                for obj in listed.items
                if obj.metadata.uid != uid and any(ref.uid == uid for ref in obj.metadata.owner_references)
            ]
        return found

    async def _set_owners(self, kind: Kind, obj: Object, owners: Sequence[v1.OwnerReference]) -> None:
        await self._patch(kind, obj, {"ownerReferences": [tree_codec.to_tree(owner) for owner in owners]})

    async def _remove_finalizer(self, kind: Kind, obj: Object, finalizer: str) -> None:
        log.info("deletion goes on", kind=kind.name, key=key_of(obj), finalizer=finalizer)
        left = [name for name in obj.metadata.finalizers if name != finalizer]
        await self._patch(kind, obj, {"finalizers": left})

    async def _patch(self, kind: Kind, obj: Object, metadata: dict[str, Any]) -> None:
        """Changes exactly this object in exactly this state; that it is gone is as good."""
        meta = obj.metadata
        demands = {"uid": meta.uid, "resourceVersion": meta.resource_version}
        try:
            await self._shared.client.kind(kind).patch(
                meta.name, {"metadata": {**demands, **metadata}}, namespace=meta.namespace
            )
        except (errors.NotFound, errors.PreconditionFailed):
            pass  # Another of the same name is not ours to change.


def _owner_key(obj: Object, ref: v1.OwnerReference) -> str:
    return join_key(obj.metadata.namespace if kinds.BY_NAME[ref.kind].namespaced else "", ref.name)
