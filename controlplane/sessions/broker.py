"""Streams between a client and the agent of a node: asked for over the agent's session, opened by the agent, joined.

Agents dial out, so a stream cannot be opened to one. The client's call leaves a relay under a random name, the session
tells the agent that name, and the agent's own call to `Agents.Stream` brings it back.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from controlplane.sessions.forwarding import away
from controlplane.sessions.pipes import Pipe
from podwire import errors, v1

# Messages that wait in each direction; with those in the windows of the connections about a megabyte of output.
_CAPACITY: Final = 8
# From the request to the agent's call. An agent opens streams at once, or says why it does not.
_OPEN_SECONDS: Final = 10.0

Send = Callable[[v1.ControlMessage], None]


@dataclass(eq=False)
class Relay:
    """One joined stream: `outputs` from the agent, `inputs` to it. `node` is the agent's."""

    node: str
    outputs: Pipe[v1.AgentFrame] = field(default_factory=lambda: Pipe(_CAPACITY))
    inputs: Pipe[v1.ExecInput] = field(default_factory=lambda: Pipe(_CAPACITY))
    joined: asyncio.Event = field(default_factory=asyncio.Event)

    def raise_for_failure(self) -> None:
        """Raises why the agent has not opened its end."""
        self.outputs.raise_for_failure()

    def close(self, error: errors.PodwireError | None = None) -> None:
        self.outputs.close(error)
        self.inputs.close(error)
        self.joined.set()


class Broker:
    def __init__(self) -> None:
        self._relays: dict[str, Relay] = {}

    @asynccontextmanager
    async def open(self, node: str, send: Send, request: v1.OpenStream) -> AsyncIterator[Relay]:
        """A stream that the agent of `node`, which `send` reaches, has joined; it is told when the client is gone."""
        request.stream_id = secrets.token_hex(16)
        relay = self._relays[request.stream_id] = Relay(node)
        try:
            send(v1.ControlMessage(open_stream=request))
            try:
                async with asyncio.timeout(_OPEN_SECONDS):
                    await relay.joined.wait()
            except TimeoutError:
                raise errors.NodeUnreachable("the node's agent did not open the stream in time") from None
            relay.raise_for_failure()
            yield relay
        finally:
            del self._relays[request.stream_id]
            relay.close()
            send(v1.ControlMessage(close_stream=request.stream_id))

    def join(self, stream_id: str) -> Relay:
        """The relay that an agent's call names, which nobody else can join any more."""
        relay = self._relays.get(stream_id)
        if relay is None or relay.joined.is_set():
            raise errors.NotFound("no client waits for this stream (any more)")
        relay.joined.set()
        return relay

    def abandon(self, node: str) -> None:
        """The node's session has ended: its agent will not join what it has not joined yet."""
        for relay in self._relays.values():
            if relay.node == node and not relay.joined.is_set():
                relay.close(away(f"the session of the node {node} has ended", node))

    def fail(self, failed: v1.StreamFailed) -> None:
        """The agent could not open a stream: the client hears why."""
        relay = self._relays.get(failed.stream_id)
        if relay is not None:
            kind = errors.BY_REASON.get(failed.reason, errors.Internal)
            relay.close(kind(failed.message or "the node's agent could not open the stream"))
