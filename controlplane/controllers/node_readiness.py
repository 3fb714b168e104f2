"""Node readiness: a node whose agent is silent is Unknown, at once, so that no traffic goes there and no pod.

An agent lives while its NodeSession exists: the object stands under the agent's etcd lease. What is judged is this
leader's own observation on its monotonic clock, never a stored time (a control plane that was away would find every
node dead). Where it could not observe, it waits: after its election, after its own watch was interrupted, and for a
node it has just heard of, agents get a grace to come (back). Only the agent says that its node is ready again.
"""

from __future__ import annotations

import asyncio
from typing import Final, NoReturn

import structlog

from controlplane import conditions
from controlplane.controllers.reconciling import Reconciler
from controlplane.controllers.shared import Shared
from podwire import v1
from podwire.client.recorder import NORMAL

log = structlog.get_logger(__name__)

# Seconds: twice what an agent needs at worst to find a replica and open its session (its back-off ends at 1 s, its
# patience with one endpoint at 5 s).
GRACE: Final = 10.0
_REASON: Final = "NodeStatusUnknown"
_MESSAGE: Final = "The agent stopped posting node status."


def grace_left(now: float, *, term_began: float, watching_since: float | None, known_since: float) -> float:
    """Seconds for which a node without a session is still believed; 0: its agent is silent.

    `watching_since` is when the watch of sessions was opened that still runs; None: there is none now.
    """
    if watching_since is None:
        return GRACE
    return max(0.0, max(term_began, watching_since, known_since) + GRACE - now)


class NodeReadiness:
    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._clock = asyncio.get_running_loop().time
        self._term_began = self._clock()
        self._known_since: dict[str, float] = {}
        self._reconciler = Reconciler("node readiness", self._reconcile)
        shared.informers.node_sessions.add_handler(lambda key, old, new: self._reconciler.queue.add(key))
        shared.informers.nodes.add_handler(self._node_changed)

    async def run(self) -> NoReturn:
        await self._reconciler.run()

    def _node_changed(self, key: str, old: v1.Node | None, new: v1.Node | None) -> None:
        if new is None:
            self._known_since.pop(key, None)
        else:
            self._known_since.setdefault(key, self._clock())
            self._reconciler.queue.add(key)

    async def _reconcile(self, key: str) -> None:
        informers = self._shared.informers
        node = informers.nodes.get(key)
        if node is None or informers.node_sessions.get(key) is not None:
            return
        left = grace_left(
            self._clock(),
            term_began=self._term_began,
            watching_since=informers.node_sessions.following_since,
            known_since=self._known_since[key],
        )
        if left:
            self._reconciler.queue.add_after(key, left)
            return
        changed = v1.Node()
        changed.CopyFrom(node)
        if mark_unknown(changed, self._shared):
            await self._shared.client.nodes.update_status(changed)
            log.warning("node is silent", node=key)
            self._shared.recorder.event(node, NORMAL, "NodeNotReady", f"Node {key} status is now: NodeNotReady")


def mark_unknown(node: v1.Node, shared: Shared) -> bool:
    """Ready, and whatever else the agent reported, is Unknown; whether it was not before."""
    kinds = {"Ready", *(condition.type for condition in node.status.conditions)}
    changes = [
        conditions.put(node.status.conditions, kind, "Unknown", _REASON, _MESSAGE, shared.now())
        for kind in sorted(kinds)
    ]
    return any(changes)
