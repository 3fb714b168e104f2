"""Calls for an agent whose session another replica has: handed on to that one, message by message.

The bytes pass through as they are, in both directions, one at a time: who is slow holds the other end up, and who ends
or cancels its side ends or cancels that of the other. The peer's answer, its errors too, is the client's. A call that
was handed on says so, and goes no further: where the session has moved meanwhile the peer answers `away`, before it has
taken anything from the client or sent anything to it, so that the call can be made again elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

import grpc
import grpc.aio
from grpc_status import rpc_status

from controlplane.http2 import Context
from controlplane.services.calls import CALL
from podwire import errors
from podwire.client import Tls
from podwire.client.connection import CHANNEL_OPTIONS

# On a call that another replica has handed on.
_FORWARDED: Final = "podwire-forwarded"
# In a call's initial metadata: the agent has opened its end; whatever comes after is the call's own.
_JOINED: Final = "podwire-joined"
# In the metadata of a NodeUnreachable: the session is not where the call went, which might find it elsewhere.
_AWAY: Final = "sessionAway"


def away(message: str, node_name: str) -> errors.NodeUnreachable:
    """The agent's session is not here (any more), and nothing of the call has happened."""
    return errors.NodeUnreachable(message, metadata={"node": node_name, _AWAY: "true"})


def is_away(error: errors.PodwireError) -> bool:
    return _AWAY in error.metadata


def is_forwarded(context: Context) -> bool:
    """Whether the call comes from another replica, and not from a client."""
    return any(key == _FORWARDED for key, _ in context.invocation_metadata())


async def tell_joined(context: Context) -> None:
    """Says that the agent has opened its end of the stream."""
    CALL.get().opened()
    await context.send_initial_metadata(((_JOINED, "true"),))


class Peers:
    """A channel to each of the other replicas that calls were handed to: made when it is needed, then kept."""

    def __init__(self, tls: Tls | None) -> None:
        """`tls` is what this replica shows the others; a unix socket needs none."""
        self._tls = tls
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def close(self) -> None:
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.close()

    async def forward(self, address: str, method: str, first: bytes, context: Context, *, more: bool) -> None:
        """Makes the call of `context` at the replica at `address`, beginning with the message `first`.

        `more` says that the client may send more. Raises what the peer answers; NodeUnreachable where it does not.
        """
        call: Any = self._channel(address).stream_stream(method)(
            metadata=((_FORWARDED, "true"),), timeout=context.time_remaining()
        )
        inputs: asyncio.Task[None] | None = None
        try:
            await call.write(first)
            # The peer has its own room for streams that are being opened.
            CALL.get().opened()
            if not more:
                await call.done_writing()
            elif _has(await call.initial_metadata(), _JOINED):
                # Not before: inputs that were taken could not be given to another replica.
                inputs = asyncio.create_task(_pass_inputs(context, call), name=f"inputs forwarded to {address}")
            while (data := await call.read()) is not grpc.aio.EOF:
                await context.write(data)
        except grpc.aio.AioRpcError as error:
            raise _meaning(error, address) from None
        except asyncio.InvalidStateError:
            # gRPC's answer to a write on a call that has ended already.
            raise _meaning(await _end_of(call), address) from None
        finally:
            call.cancel()
            if inputs is not None:
                inputs.cancel()
                await asyncio.wait([inputs])

    def _channel(self, address: str) -> grpc.aio.Channel:
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = self._open(address)
        return channel

    def _open(self, address: str) -> grpc.aio.Channel:
        if address.startswith("unix:"):
            return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        if self._tls is None:
            raise errors.NodeUnreachable(f"the node's session is at {address}, and this replica has no certificates")
        tls = self._tls
        credentials = grpc.ssl_channel_credentials(tls.ca.read_bytes(), tls.key.read_bytes(), tls.cert.read_bytes())
        return grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS)


async def _pass_inputs(context: Context, call: Any) -> None:
    try:
        while (data := await context.read()) is not grpc.aio.EOF:
            await call.write(data)
        await call.done_writing()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        # The peer has ended the call: the reader of its outputs hears why.
        return


async def _end_of(call: Any) -> grpc.aio.AioRpcError:
    """Why a call has ended."""
    return grpc.aio.AioRpcError(
        await call.code(), await call.initial_metadata(), await call.trailing_metadata(), await call.details()
    )


def _meaning(error: grpc.aio.AioRpcError, address: str) -> errors.PodwireError:
    """The peer's own error, or what its silence means for the client."""
    if rpc_status.from_call(error) is None and error.code() is grpc.StatusCode.UNAVAILABLE:
        return errors.NodeUnreachable(
            f"the replica {address}, with which the node's agent has its session, does not answer: {error.details()}"
        )
    return errors.from_rpc_error(error)


def _has(metadata: Iterable[Any] | None, key: str) -> bool:
    return any(name == key for name, _ in metadata or ())
