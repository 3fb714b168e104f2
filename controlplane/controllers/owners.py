"""Owner references: what belonged to an object that is gone is deleted (background deletion).

An object goes when none of the owners it names exists any more, each looked for by kind, name and uid. That an owner is
not in an informer proves nothing (the informer may be behind), so the API is asked before anything is deleted.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn

import structlog

from controlplane.controllers import writing
from controlplane.controllers.reconciling import Reconciler
from controlplane.controllers.shared import BY_OWNER, Shared
from podwire import errors, kinds, v1
from podwire.client import Informer
from podwire.keys import Object, join_key
from podwire.kinds import Kind

log = structlog.get_logger(__name__)

# Kinds whose objects go with their owners, and kinds that own.
_DEPENDENTS: Final = (kinds.POD, kinds.REPLICA_SET, kinds.ENDPOINT_SLICE)
_OWNERS: Final = (kinds.DEPLOYMENT, kinds.REPLICA_SET, kinds.SERVICE, kinds.POD, kinds.NODE)
# Seconds until an owner that exists, but that the informer does not show yet, is looked for again.
_LOOK_AGAIN: Final = 5.0

# A kind's name and an object's key.
Dependent = tuple[str, str]


class Owners:
    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._informers = shared.informers.by_kind()
        self._reconciler: Reconciler[Dependent] = Reconciler("owners", self._reconcile, workers=8)
        for kind in _DEPENDENTS:
            self._follow_dependents(kind, self._informers[kind.name])
        for kind in _OWNERS:
            self._informers[kind.name].add_handler(self._owner_changed)

    async def run(self) -> NoReturn:
        await self._reconciler.run()

    def _follow_dependents(self, kind: Kind, informer: Informer[Any]) -> None:
        def changed(key: str, old: Any, new: Any) -> None:
            if new is not None and not all(self._is_shown(new, owner) for owner in new.metadata.owner_references):
                self._reconciler.queue.add((kind.name, key))

        informer.add_handler(changed)

    def _owner_changed(self, key: str, old: Any, new: Any) -> None:
        if new is not None or old is None:
            return
        for kind in _DEPENDENTS:
            for dependent in self._informers[kind.name].by_index(BY_OWNER, old.metadata.uid):
                meta = dependent.metadata
                self._reconciler.queue.add((kind.name, join_key(meta.namespace, meta.name)))

    async def _reconcile(self, dependent: Dependent) -> None:
        name, key = dependent
        kind = kinds.BY_NAME[name]
        obj = self._informers[kind.name].get(key)
        if obj is None or not obj.metadata.owner_references or obj.metadata.HasField("deletion_timestamp"):
            return
        for owner in obj.metadata.owner_references:
            if self._is_shown(obj, owner):
                return
        for owner in obj.metadata.owner_references:
            if await self._exists(obj, owner):
                self._reconciler.queue.add_after(dependent, _LOOK_AGAIN)
                return
        log.info("deleting what has no owner any more", kind=name, key=key)
        await writing.delete(self._shared.client.kind(kind), obj)

    def _is_shown(self, obj: Object, owner: v1.OwnerReference) -> bool:
        """Whether the owner is in its informer. Of a kind that is not ours nobody here can say that it is gone."""
        kind = kinds.BY_NAME.get(owner.kind)
        if kind not in _OWNERS:
            return True
        found = self._informers[kind.name].get(_key(obj, owner, kind))
        return found is not None and found.metadata.uid == owner.uid

    async def _exists(self, obj: Object, owner: v1.OwnerReference) -> bool:
        kind = kinds.BY_NAME[owner.kind]
        namespace = obj.metadata.namespace if kind.namespaced else ""
        try:
            found = await self._shared.client.kind(kind).get(owner.name, namespace=namespace)
        except errors.NotFound:
            return False
        return bool(found.metadata.uid == owner.uid)


def _key(obj: Object, owner: v1.OwnerReference, kind: Kind) -> str:
    return join_key(obj.metadata.namespace if kind.namespaced else "", owner.name)
