"""containerd's events, from a point in time that is known.

The subscription answers nothing until the first event comes, so whoever lists what there is cannot know whether
the list or the stream has a change. A marker of our own, published until it comes back on the stream, tells.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from google.protobuf.any_pb2 import Any
from google.protobuf.timestamp_pb2 import Timestamp

from nodeagent.containerd.api import events_pb2, task_events_pb2
from nodeagent.containerd.client import Client, ContainerdError

_MARKER_TOPIC: Final = "/podwire/subscribed"
_MARKER_TYPE: Final = "podwire.io/marker"
_MARKER_INTERVAL: Final = 0.02
"""Seconds between markers, until the first one has come back."""


@dataclass(frozen=True, slots=True)
class Subscribed:
    """Every event after this one is delivered: list now."""


@dataclass(frozen=True, slots=True)
class ProcessExited:
    """A process of a container has ended: its first one where `exec_id` is empty."""

    container_id: str
    exec_id: str
    code: int
    at: datetime


Event = Subscribed | ProcessExited


def moment(timestamp: Timestamp) -> datetime:
    """`timestamp` as a datetime in UTC."""
    return timestamp.ToDatetime(tzinfo=UTC)


def _task_exit(value: bytes) -> Event:
    message = task_events_pb2.TaskExit.FromString(value)
    exec_id = "" if message.id == message.container_id else message.id
    return ProcessExited(message.container_id, exec_id, message.exit_status, moment(message.exited_at))


# The type URLs are bare names, which Any.Unpack refuses.
_PARSERS: Final[Mapping[str, Callable[[bytes], Event]]] = {
    "containerd.events.TaskExit": _task_exit,
}


def parse(event: Any) -> Event | None:
    """What `event` says, or None where nobody here listens to its kind."""
    parser = _PARSERS.get(event.type_url.rpartition("/")[2])
    return parser(event.value) if parser else None


async def subscribe(client: Client) -> AsyncGenerator[Event, None]:
    """Subscribed first, then every event of the client's namespace. Ends by raising ContainerdError."""
    marker = uuid.uuid4().hex.encode()
    filters = [f'namespace=={client.namespace},topic=="{topic}"' for topic in ("/tasks/exit", _MARKER_TOPIC)]
    request = events_pb2.SubscribeRequest(filters=filters)
    subscribed = False
    marking = asyncio.create_task(_mark(client, marker), name="containerd-marker")
    try:
        async with aclosing(client.stream(client.events.Subscribe, request, timeout=None)) as envelopes:
            async for envelope in envelopes:
                if envelope.topic == _MARKER_TOPIC:
                    if envelope.event.value == marker and not subscribed:
                        subscribed = True
                        marking.cancel()
                        yield Subscribed()
                elif (event := parse(envelope.event)) is not None:
                    yield event
    finally:
        marking.cancel()


async def _mark(client: Client, marker: bytes) -> None:
    request = events_pb2.PublishRequest(topic=_MARKER_TOPIC, event=Any(type_url=_MARKER_TYPE, value=marker))
    while True:
        try:
            await client.call(client.events.Publish, request)
        except ContainerdError:
            # Where containerd is gone the stream fails too, and says so to its reader.
            pass
        await asyncio.sleep(_MARKER_INTERVAL)
