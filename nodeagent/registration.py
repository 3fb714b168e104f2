"""The node's object in the API: made when it is not there, and kept saying what is true.

It is written when the agent's state changes or when somebody else has written something else into the agent's part (the
control plane, which declares a silent node not ready). Heartbeats are the session's; none is written here.
"""

from __future__ import annotations

import asyncio
from typing import Final, NoReturn

import structlog

from nodeagent.clock import Clock
from nodeagent.node_object import NodeState, new_node, with_labels, with_status
from podwire import errors, v1
from podwire.backoff import Backoff
from podwire.client import Informer, KindClient

log = structlog.get_logger(__name__)

_RETRY_FIRST: Final = 0.1
_RETRY_CAP: Final = 5.0


class Registration:
    """`nodes` must show this node at least."""

    def __init__(self, client: KindClient[v1.Node], nodes: Informer[v1.Node], state: NodeState, clock: Clock) -> None:
        self._client = client
        self._nodes = nodes
        self._state = state
        self._clock = clock
        self._wake = asyncio.Event()
        self._seen = asyncio.Event()
        nodes.add_handler(self._changed)

    def report(self, state: NodeState) -> None:
        """The agent's state is another now."""
        if state != self._state:
            self._state = state
            self._wake.set()

    async def pod_cidr(self, *, other_than: str = "") -> str:
        """The range of this node's pods, once the control plane has given it one, or another one."""
        while True:
            node = self._nodes.get(self._state.name)
            if node is not None and node.spec.pod_cidr not in ("", other_than):
                return node.spec.pod_cidr
            self._seen.clear()
            await self._seen.wait()

    async def run(self) -> NoReturn:
        """Keeps the object until cancelled."""
        await self._nodes.wait_synced()
        backoff = Backoff(_RETRY_FIRST, _RETRY_CAP)
        while True:
            self._wake.clear()
            try:
                await self._reconcile()
            except errors.PodwireError as error:
                # A conflict is settled by the object that the informer is about to see.
                if not (error.retryable or isinstance(error, errors.Conflict | errors.NotFound | errors.AlreadyExists)):
                    raise
                log.info("node not written, trying again", error=str(error))
                await self._clock.sleep(backoff.next())
                continue
            backoff.reset()
            await self._wake.wait()

    async def _reconcile(self) -> None:
        now = self._clock.now()
        node = self._nodes.get(self._state.name)
        if node is None:
            await self._client.create(new_node(self._state, now))
            log.info("node registered", node=self._state.name)
            return
        labelled = with_labels(node, self._state)
        if labelled != node:
            node = await self._client.update(labelled)
        wanted = with_status(node, self._state, now)
        if wanted.status != node.status:
            await self._client.update_status(wanted)

    def _changed(self, key: str, _old: v1.Node | None, _new: v1.Node | None) -> None:
        if key != self._state.name:
            return
        self._wake.set()
        self._seen.set()
