"""The service Agents: sessions are begun and found here, and the agents' streams are joined to those of clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final

import grpc
import grpc.aio
import structlog

from controlplane.http2 import Context
from controlplane.services import lifecycle
from controlplane.services.calls import CALL, LAST_WORD_SECONDS, cut_after
from controlplane.services.verbs import answer_errors, parse
from controlplane.services.writing import now
from controlplane.sessions.broker import Broker, Relay
from controlplane.sessions.forwarding import away
from controlplane.sessions.session import Session, first_of
from controlplane.sessions.statuses import StatusWriter
from controlplane.store import entries, keys, wire
from controlplane.store import operations as op
from controlplane.store.cache import Cache
from controlplane.store.commits import Committer, Write
from controlplane.store.etcd import Etcd
from controlplane.store.leases import Lease, Renewals
from podwire import errors, kinds, v1
from podwire.validation.names import dns_subdomain

log = structlog.get_logger(__name__)

SERVICE: Final = "podwire.v1.Agents"


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Seconds. A node is noticed to be dead within `lease_ttl`, plus the second that etcd takes to expire a lease."""

    lease_ttl: int = 5
    heartbeat_interval: float = 1.0
    # A session with no message for so long is ended; the agent begins another, with the same lease.
    silence: float = 3.0


class Agents:
    """`run_renewals` needs a task."""

    def __init__(
        self,
        etcd: Etcd,
        cache: Cache,
        committer: Committer,
        statuses: StatusWriter,
        *,
        replica_address: str,
        new_uid: Callable[[], str],
        settings: SessionSettings | None = None,
    ) -> None:
        self._etcd = etcd
        self._cache = cache
        self._committer = committer
        self._statuses = statuses
        self._replica_address = replica_address
        self._new_uid = new_uid
        self._settings = settings or SessionSettings()
        self._sessions: dict[str, Session] = {}
        self.broker = Broker()
        self.renewals: Renewals = etcd.renewals()

    def session_of(self, node_name: str) -> Session | None:
        """The session that this replica has with a node's agent."""
        return self._sessions.get(node_name)

    def replica_of(self, node_name: str) -> str:
        """The address of the other replica that has a node's session; NodeUnreachable where none has."""
        entry = self._cache.of(kinds.NODE_SESSION).entries.get(node_name)
        address = entry.message().spec.replica_address if entry is not None else self._replica_address
        if address == self._replica_address:
            raise self.no_session(node_name)
        return address

    def no_session(self, node_name: str) -> errors.NodeUnreachable:
        return away(f"the agent of the node {node_name} has no session with the control plane now", node_name)

    def end_sessions(self, error: errors.PodwireError) -> None:
        """Ends every session; their agents go to another replica, with the same leases."""
        for session in self._sessions.values():
            session.end(error)

    @property
    def sessions(self) -> int:
        return len(self._sessions)

    def handler(self) -> grpc.GenericRpcHandler:
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Session": grpc.stream_stream_rpc_method_handler(self._session),
            "Stream": grpc.stream_stream_rpc_method_handler(self._stream),
        }
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    async def _session(self, requests: Any, context: Context) -> None:
        await answer_errors(context, f"{SERVICE}/Session", self._serve_session(context))

    async def _serve_session(self, context: Context) -> None:
        incoming = _messages(context, v1.AgentMessage)
        hello = await self._hello(incoming)
        lease = await self._lease(hello)
        revision = await self._announce(hello, lease)
        # Before the first message: the agent knows that its call has come through.
        await context.send_initial_metadata(())
        CALL.get().opened()
        session = Session(
            hello,
            lease,
            revision,
            cache=self._cache,
            renewals=self.renewals,
            statuses=self._statuses,
            broker=self.broker,
            silence=self._settings.silence,
        )
        older = self._sessions.get(hello.node_name)
        if older is not None:
            older.end(errors.PreconditionFailed("a newer session of this node has begun"))
        self._sessions[hello.node_name] = session
        log.info("session begins", node=hello.node_name, instance=hello.instance, lease=f"{lease.id:x}")

        async def write(message: v1.ControlMessage) -> None:
            await context.write(message.SerializeToString())

        reason = "the connection is gone"
        try:
            session.send(self._welcome(lease))
            await session.run(incoming, write)
            reason = "the agent has ended it"
        except errors.PodwireError as error:
            reason = str(error)
            # An agent that does not read would keep what it has been sent for ever.
            cut_after(LAST_WORD_SECONDS)
            raise
        finally:
            log.info("session ends", node=hello.node_name, instance=hello.instance, reason=reason)
            if self._sessions.get(hello.node_name) is session:
                del self._sessions[hello.node_name]
                self.broker.abandon(hello.node_name)

    async def _hello(self, incoming: AsyncIterator[v1.AgentMessage]) -> v1.Hello:
        try:
            async with asyncio.timeout(self._settings.silence):
                first = await anext(incoming, None)
        except TimeoutError:
            raise errors.Unavailable("the session did not begin with a hello in time") from None
        if first is None or not (first.hello.node_name and first.hello.instance):
            raise errors.Invalid("a session begins with a hello that names the node and the agent's instance")
        hello: v1.Hello = first.hello
        wrong = list(dns_subdomain("nodeName", hello.node_name))
        if wrong:
            raise errors.Invalid.fields("the hello", wrong)
        return hello

    async def _lease(self, hello: v1.Hello) -> Lease:
        """The lease that the agent was given before, if it still lives, or a new one."""
        if hello.lease_id:
            lease = await self._etcd.adopt(hello.lease_id)
            if lease is not None:
                await self._renew(lease)
                return lease
        return await self._etcd.grant(self._settings.lease_ttl)

    async def _renew(self, lease: Lease) -> None:
        try:
            async with asyncio.timeout(self._settings.silence):
                await self.renewals.renew(lease)
        except TimeoutError:
            raise errors.Unavailable("etcd does not answer: the lease could not be renewed") from None

    async def _announce(self, hello: v1.Hello, lease: Lease) -> int:
        """Writes the NodeSession under the lease, and waits until this replica knows of it; the write's revision."""
        etcd_key = keys.object_key(kinds.NODE_SESSION, hello.node_name)
        await self._cache.wait_fresh()
        entry = self._cache.of(kinds.NODE_SESSION).entries.get(hello.node_name)
        while True:
            current = entry.message() if entry is not None else None
            stored = wire.encode(self._node_session(hello, lease, current))
            compare = op.unchanged(etcd_key, entry.revision if entry is not None else 0)
            outcome = await self._committer.commit(Write([compare], {etcd_key: stored}, lease=lease.id))
            if outcome.succeeded:
                await self._cache.wait_revision(outcome.revision)
                return outcome.revision
            kv = outcome.found.get(etcd_key)
            entry = None
            if kv is not None:
                entry = entries.make(kinds.NODE_SESSION, hello.node_name, kv.value, kv.mod_revision)

    def _node_session(self, hello: v1.Hello, lease: Lease, current: v1.NodeSession | None) -> v1.NodeSession:
        session = v1.NodeSession()
        if current is not None:
            session.metadata.CopyFrom(current.metadata)
        else:
            session.metadata.name = hello.node_name
            session.metadata.uid = self._new_uid()
            session.metadata.creation_timestamp.CopyFrom(now())
        session.spec.replica_address = self._replica_address
        session.spec.agent_instance = hello.instance
        session.spec.lease_id = lease.id
        return session

    def _welcome(self, lease: Lease) -> v1.ControlMessage:
        welcome = v1.Welcome(lease_id=lease.id, epoch=self._cache.epoch)
        welcome.lease_ttl.FromSeconds(lease.ttl)
        welcome.heartbeat_interval.FromMilliseconds(int(self._settings.heartbeat_interval * 1000))
        return v1.ControlMessage(welcome=welcome)

    async def _stream(self, requests: Any, context: Context) -> None:
        await answer_errors(context, f"{SERVICE}/Stream", self._serve_stream(context))

    async def _serve_stream(self, context: Context) -> None:
        """An agent's end of a relay: its frames go to the client, the client's inputs come to it."""
        frames = _messages(context, v1.AgentFrame)
        first = await anext(frames, None)
        if first is None or first.WhichOneof("frame") != "stream_id":
            raise errors.Invalid("a stream begins with its id")
        relay = self.broker.join(first.stream_id)
        CALL.get().opened()
        try:
            await context.send_initial_metadata(())
            async with asyncio.TaskGroup() as owner:
                inputs = owner.create_task(_send_inputs(relay, context), name="inputs to an agent")
                async for frame in frames:
                    await _put(relay, frame)
                inputs.cancel()
        except BaseExceptionGroup as group:
            _, other = group.split(_ClientGone)
            if other is not None:
                raise first_of(other) from None
        finally:
            relay.close()


class _ClientGone(Exception):
    """The other end of a relay has closed it, or was told of a failure: the agent's stream just ends."""


async def _put(relay: Relay, frame: v1.AgentFrame) -> None:
    try:
        await relay.outputs.put(frame)
    except errors.PodwireError:
        raise _ClientGone from None


async def _send_inputs(relay: Relay, context: Context) -> None:
    try:
        while (message := await relay.inputs.get()) is not None:
            await context.write(message.SerializeToString())
    except errors.PodwireError:
        pass
    # Reading on would wait for an agent that has nothing more to do.
    raise _ClientGone


async def _messages(context: Context, message: Any) -> AsyncIterator[Any]:
    """The messages of a call until its client ends it."""
    while (data := await context.read()) is not grpc.aio.EOF:
        yield parse(message, data)


def node_of(pod: v1.Pod) -> str:
    """The node that a pod runs on; NodeUnreachable where it runs nowhere yet."""
    if not pod.spec.node_name:
        key = f"{pod.metadata.namespace}/{pod.metadata.name}"
        raise errors.NodeUnreachable(f"{lifecycle.describe(kinds.POD, key)} is not on a node yet")
    return pod.spec.node_name
