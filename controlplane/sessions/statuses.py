"""The statuses of pods that agents send, written as they come; concurrent ones share transactions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from controlplane.services import lifecycle
from controlplane.services.writing import Demands, Writer
from controlplane.store import keys
from podwire import errors, kinds, v1
from podwire.keys import join_key

# Conditions that agents own: one that a new status lacks is gone. All others are kept as they are.
_OF_AGENTS: Final = frozenset({"Ready", "ContainersReady", "Initialized", "PodReadyToStartContainers"})


def merged_status(stored: v1.PodStatus, sent: v1.PodStatus) -> v1.PodStatus:
    """The status after an agent's report: the agent's, with what others have written into it."""
    merged = v1.PodStatus()
    merged.CopyFrom(sent)
    named = {condition.type for condition in sent.conditions}
    kept = [c for c in stored.conditions if c.type not in named and c.type not in _OF_AGENTS]
    merged.conditions.extend(kept)
    merged.qos_class = merged.qos_class or stored.qos_class
    return merged


class StatusWriter:
    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def write(
        self, node_name: str, updates: Sequence[v1.PodStatusUpdate], session_revision: int
    ) -> list[v1.StatusResult]:
        """Writes each, at once, and says of each what came of it.

        `session_revision` is the revision of the NodeSession that the statuses came over: raises Fenced where a newer
        session has begun, so that what an older one still has never takes the place of what the newer one brought.
        """
        demands = Demands(standing=(keys.object_key(kinds.NODE_SESSION, node_name), session_revision))
        return list(await asyncio.gather(*(self._write(node_name, update, demands) for update in updates)))

    async def _write(self, node_name: str, update: v1.PodStatusUpdate, demands: Demands) -> v1.StatusResult:
        def decide(pod: Any) -> Any:
            lifecycle.check_preconditions(kinds.POD, pod, uid=update.uid, resource_version="")
            if pod.spec.node_name != node_name:
                raise errors.PreconditionFailed(f"the pod is on the node {pod.spec.node_name!r}, not on {node_name!r}")
            pod.status.CopyFrom(merged_status(pod.status, update.status))
            return pod

        key = join_key(update.namespace, update.name)
        try:
            await self._writer.change(kinds.POD, key, decide, demands)
        except errors.Fenced:
            raise
        except errors.PodwireError as error:
            # Another uid under the same name: the agent's pod is gone.
            gone = isinstance(error, errors.PreconditionFailed) and not self._has_uid(key, update.uid)
            reason = errors.NotFound.reason if gone else error.reason
            return v1.StatusResult(uid=update.uid, reason=reason, message=error.message)
        return v1.StatusResult(uid=update.uid)

    def _has_uid(self, key: str, uid: str) -> bool:
        return self._writer.uid_of(kinds.POD, key) == uid
