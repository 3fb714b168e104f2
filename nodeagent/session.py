"""The agent's session with the control plane: one stream that says the node is alive, and carries statuses.

A session that hears nothing for two heartbeat intervals is dead and a new one is opened, with the same lease, on
whichever replica answers. For each stream that the control plane asks for (logs, exec) the agent opens one of its own
to the replica that holds the session.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NoReturn, Protocol

import structlog

from nodeagent.clock import Clock
from nodeagent.reporting import StatusReporter
from podwire import errors, v1
from podwire.attempt import attempt
from podwire.backoff import Backoff
from podwire.client.connection import Connection, Endpoint, Stream

log = structlog.get_logger(__name__)

_SESSION: Final = "/podwire.v1.Agents/Session"
_STREAM: Final = "/podwire.v1.Agents/Stream"
# Seconds for the first answer, and between attempts to open a session.
_WELCOME_WITHIN: Final = 5.0
_RETRY_FIRST: Final = 0.1
_RETRY_CAP: Final = 1.0
# A session that is silent for so many heartbeat intervals is dead. The server's lease lives for five, and was last
# renewed up to two ago: what is left is for beginning a session elsewhere.
_SILENT_INTERVALS: Final = 2


class ServesStreams(Protocol):
    """What answers a request for logs or exec over `stream`, and returns when the other end has closed it.

    Raises podwire.errors.
    """

    async def serve(self, request: v1.OpenStream, stream: Stream) -> None: ...


@dataclass(frozen=True, slots=True)
class Identity:
    """Who opens the session. `instance` is a random name that this process drew at its start."""

    node_name: str
    instance: str
    version: str


class Session:
    def __init__(
        self,
        connection: Connection,
        identity: Identity,
        reporter: StatusReporter,
        streams: ServesStreams,
        clock: Clock,
    ) -> None:
        self._connection = connection
        self._identity = identity
        self._reporter = reporter
        self._streams = streams
        self._clock = clock
        self._lease_id = 0
        self._serving: dict[str, asyncio.Task[None]] = {}
        self.established = asyncio.Event()
        """Set while a session is up."""

    async def run(self) -> NoReturn:
        """Sessions, one after another, until cancelled."""
        backoff = Backoff(_RETRY_FIRST, _RETRY_CAP)
        while True:
            try:
                await attempt(self._one_session(backoff))
            except* errors.PodwireError as group:
                log.info("session ended", error=str(group.exceptions[0]))
            finally:
                self.established.clear()
                self._reporter.session_ended()
            await self._clock.sleep(backoff.next())

    async def _one_session(self, backoff: Backoff) -> None:
        endpoint = await self._connection.ready()
        stream = _open(self._connection, endpoint, _SESSION, v1.ControlMessage)
        writing = asyncio.Lock()
        try:
            await stream.write(v1.AgentMessage(hello=self._hello()))
            welcome = await self._welcome(stream)
            backoff.reset()
            self._lease_id = welcome.lease_id
            interval = welcome.heartbeat_interval.ToMicroseconds() / 1e6
            self.established.set()
            log.info("session established", lease=welcome.lease_id, server=endpoint.address)
            failures: asyncio.Queue[v1.StreamFailed] = asyncio.Queue()
            async with asyncio.TaskGroup() as owner:
                owner.create_task(self._beat(stream, writing, interval), name="heartbeats")
                owner.create_task(self._send_statuses(stream, writing), name="statuses")
                owner.create_task(self._send_failures(stream, writing, failures), name="failures of streams")
                owner.create_task(self._read(owner, endpoint, stream, failures, interval), name="session reader")
        finally:
            self._serving.clear()
            stream.cancel()

    def _hello(self) -> v1.Hello:
        identity = self._identity
        return v1.Hello(
            node_name=identity.node_name,
            instance=identity.instance,
            lease_id=self._lease_id,
            version=identity.version,
        )

    async def _welcome(self, stream: Stream) -> v1.Welcome:
        message = await _read_within(stream, _WELCOME_WITHIN)
        if message.WhichOneof("message") != "welcome":
            raise errors.Unavailable("the server did not answer Hello with Welcome")
        welcome: v1.Welcome = message.welcome
        return welcome

    async def _beat(self, stream: Stream, writing: asyncio.Lock, interval: float) -> NoReturn:
        sequence = 0
        while True:
            sequence += 1
            async with writing:
                await stream.write(v1.AgentMessage(heartbeat=v1.Heartbeat(sequence=sequence)))
            await self._clock.sleep(interval)

    async def _send_statuses(self, stream: Stream, writing: asyncio.Lock) -> NoReturn:
        while True:
            batch = self._reporter.next_batch()
            if batch is None:
                await self._reporter.changed.wait()
                continue
            async with writing:
                await stream.write(v1.AgentMessage(statuses=batch))

    async def _send_failures(
        self, stream: Stream, writing: asyncio.Lock, failures: asyncio.Queue[v1.StreamFailed]
    ) -> NoReturn:
        """In a task of their own, not in those that have failed: these end when the other end closes their stream, and
        gRPC ends the whole session with a write that is cancelled.
        """
        while True:
            failure = await failures.get()
            async with writing:
                await stream.write(v1.AgentMessage(stream_failed=failure))

    async def _read(
        self,
        owner: asyncio.TaskGroup,
        endpoint: Endpoint,
        stream: Stream,
        failures: asyncio.Queue[v1.StreamFailed],
        interval: float,
    ) -> NoReturn:
        while True:
            message = await _read_within(stream, interval * _SILENT_INTERVALS)
            match message.WhichOneof("message"):
                case "statuses":
                    self._reporter.acknowledged(message.statuses)
                case "open_stream":
                    request = message.open_stream
                    self._serving[request.stream_id] = owner.create_task(
                        self._serve(endpoint, request, failures), name=f"stream {request.stream_id}"
                    )
                case "close_stream":
                    served = self._serving.pop(message.close_stream, None)
                    if served is not None:
                        served.cancel()

    async def _serve(
        self, endpoint: Endpoint, request: v1.OpenStream, failures: asyncio.Queue[v1.StreamFailed]
    ) -> None:
        stream = _open(self._connection, endpoint, _STREAM, v1.ExecInput)
        try:
            await stream.write(v1.AgentFrame(stream_id=request.stream_id))
            await self._streams.serve(request, stream)
        except errors.PodwireError as error:
            await _fail(request, error, stream, failures)
        except Exception as error:
            # The one place that outlives a fault of a stream: neither the session nor other streams are to suffer.
            log.exception("stream failed", stream=request.stream_id)
            await _fail(request, errors.Internal(f"the agent failed: {error}"), stream, failures)
        finally:
            self._serving.pop(request.stream_id, None)
            stream.cancel()


async def _fail(
    request: v1.OpenStream, error: errors.PodwireError, stream: Stream, failures: asyncio.Queue[v1.StreamFailed]
) -> None:
    """Says why, and returns when the other end has closed the stream: one that ended before that has heard it would
    look to it like an agent that went away.
    """
    failures.put_nowait(v1.StreamFailed(stream_id=request.stream_id, reason=error.reason, message=error.message))
    with suppress(errors.PodwireError):
        while await stream.read() is not None:
            pass


def _open(
    connection: Connection, endpoint: Endpoint, method: str, response: type[v1.ExecInput] | type[v1.ControlMessage]
) -> Stream:
    return Stream(connection, endpoint, endpoint.callable("stream_stream", method, response)())


async def _read_within(stream: Stream, seconds: float) -> v1.ControlMessage:
    try:
        async with asyncio.timeout(seconds):
            message: v1.ControlMessage | None = await stream.read()
    except TimeoutError:
        raise stream.gone_silent(seconds) from None
    if message is None:
        raise errors.Unavailable("the control plane ended the session")
    return message
