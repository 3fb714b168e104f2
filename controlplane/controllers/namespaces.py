"""Namespaces: one that is being deleted is emptied, and removed when nothing is left in it.

The API refuses to create anything in it meanwhile, and refuses to remove it while anything is left; so this only has
to go on deleting until it is let through.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn

import structlog

from controlplane.controllers.reconciling import Reconciler
from controlplane.controllers.shared import Shared
from podwire import errors, kinds, v1
from podwire.keys import split_key

log = structlog.get_logger(__name__)

# Seconds until a namespace that could not be removed is looked at again.
_LOOK_AGAIN: Final = 5.0
# Makers before what they make, so that nothing is made again that the API would only refuse.
_ORDER: Final = (kinds.DEPLOYMENT, kinds.REPLICA_SET, kinds.SERVICE)
_KINDS: Final = (*_ORDER, *(kind for kind in kinds.KINDS if kind.namespaced and kind not in _ORDER))


class Namespaces:
    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._reconciler = Reconciler("namespaces", self._reconcile)
        shared.informers.namespaces.add_handler(lambda key, old, new: self._reconciler.queue.add(key))
        for name, informer in shared.informers.by_kind().items():
            if kinds.BY_NAME[name].namespaced:
                informer.add_handler(self._content_changed)

    async def run(self) -> NoReturn:
        await self._reconciler.run()

    def _content_changed(self, key: str, old: Any, new: Any) -> None:
        """The last pod that has stopped lets its namespace go."""
        namespace, _ = split_key(key)
        if new is None and _is_terminating(self._shared.informers.namespaces.get(namespace)):
            self._reconciler.queue.add(namespace)

    async def _reconcile(self, key: str) -> None:
        namespace = self._shared.informers.namespaces.get(key)
        if namespace is None or not _is_terminating(namespace):
            return
        for kind in _KINDS:
            await self._shared.client.kind(kind).delete_collection(namespace=key)
        try:
            ended = await self._shared.client.namespaces.delete(key, uid=namespace.metadata.uid, grace_period_seconds=0)
        except errors.NotFound:
            return
        except errors.PreconditionFailed as error:
            # Pods are being stopped, or finalizers hold something; that one is gone wakes this again. The timer is for
            # kinds not followed here.
            log.info("namespace waits for its contents", namespace=key, reason=str(error))
            self._reconciler.queue.add_after(key, _LOOK_AGAIN)
            return
        if ended.metadata.finalizers:
            # Whoever put them there takes them off, and that wakes this again.
            log.info("namespace waits for its finalizers", namespace=key, finalizers=list(ended.metadata.finalizers))
            return
        log.info("namespace removed", namespace=key)


def _is_terminating(namespace: v1.Namespace | None) -> bool:
    return namespace is not None and namespace.metadata.HasField("deletion_timestamp")
