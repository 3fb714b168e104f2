"""Every method of the API behind the limits on what is under way.

One handler stands for all of the server's, which remembers what it finds here. A unary call counts as a request in
flight until its answer is made. A stream counts as one while it is being opened (a watch, until it stands), because
that is when it costs what a request costs; for its life it counts as a stream.

This is no interceptor of gRPC's because those cost more than the limits themselves (docs/decisions/0012).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import grpc

from controlplane.http2 import Context
from controlplane.services.calls import CALL, Call
from controlplane.services.in_flight import Share
from controlplane.services.users import Users
from controlplane.services.verbs import answer_errors

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class Admission(grpc.GenericRpcHandler):
    def __init__(self, handlers: Sequence[grpc.GenericRpcHandler], users: Users, *, reading: float) -> None:
        self._handlers = handlers
        self._users = users
        self._reading = reading

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        method: Any = handler_call_details.method
        found = (handler.service(handler_call_details) for handler in self._handlers)
        plain = next((handler for handler in found if handler is not None), None)
        return None if plain is None else self._guarded(method.lstrip("/"), plain)

    def _guarded(self, method: str, plain: Any) -> Handler:
        if plain.request_streaming:
            return grpc.stream_stream_rpc_method_handler(self._stream(method, plain.stream_stream))
        if plain.response_streaming:
            return grpc.unary_stream_rpc_method_handler(self._stream(method, plain.unary_stream))
        return grpc.unary_unary_rpc_method_handler(self._unary(method, plain.unary_unary))

    def _unary(self, method: str, behavior: Any) -> Any:
        user_of, calls, reading = self._users.of, self._users.calls, self._reading

        async def respond(data: bytes, context: Context) -> Any:
            user = user_of(context)
            share = user.requests
            if not share.enter_now():
                await _enter(share, method, context)
            try:
                calls[method] += 1
                CALL.set(Call(user, reading))
                return await behavior(data, context)
            finally:
                share.leave()

        return respond

    def _stream(self, method: str, behavior: Any) -> Any:
        async def respond(request: Any, context: Context) -> None:
            user = self._users.of(context)
            await _enter(user.streams, method, context)
            try:
                await _enter(user.requests, method, context)
                self._users.calls[method] += 1
                call = Call(user, self._reading, opening=user.requests)
                CALL.set(call)
                try:
                    await behavior(request, context)
                finally:
                    call.opened()
            finally:
                user.streams.leave()

        return respond


async def _enter(share: Share, method: str, context: Context) -> None:
    """Takes room, or tells the client that there is none."""
    await answer_errors(context, method, share.enter())
