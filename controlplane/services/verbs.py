"""The gRPC methods that every kind has, made from its row in the table of kinds.

Requests arrive as bytes and are read here, so that what is no message gets a clear error; objects leave as bytes that
are put together from what is stored, with no message built.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import quote

import grpc
import structlog
from google.protobuf.message import DecodeError

from controlplane.http2 import Context
from controlplane.services import applying, calls, field_ownership, lifecycle, patching
from controlplane.services.callers import Fence, fence_of, manager_of
from controlplane.services.deleting import delete, delete_collection
from controlplane.services.reading import Reader
from controlplane.services.writing import Demands, Writer, Written, now
from podwire import errors, v1, validation
from podwire.keys import key_of
from podwire.kinds import Kind
from podwire.validation.times import impossible_times

log = structlog.get_logger(__name__)

Unary = Callable[[Any, Context], Awaitable[bytes]]

RESULT_METADATA: Final = "podwire-result"
WARNING_METADATA: Final = "podwire-warning"


async def answer_errors(context: Context, method: str, call: Awaitable[Any]) -> Any:
    """What `call` gives, or its error as the call's status. The one place where unknown errors become INTERNAL."""
    try:
        return await call
    except Exception as error:
        status = _status_of(error, method)
    return await context.abort_with_status(status)


def _status_of(error: Exception, method: str) -> grpc.Status:
    if isinstance(error, errors.PodwireError):
        # The error and the call's frames refer to each other: a large object in them would stay until Python collects
        # garbage.
        error.__traceback__ = error.__context__ = None
        return errors.to_grpc_status(error)
    log.exception("request failed for a reason that nobody foresaw", method=method)
    return errors.to_grpc_status(errors.Internal(f"{method} failed inside the server: its log says why"))


def unary(method: str, request_type: Any, handle: Unary) -> grpc.RpcMethodHandler[Any, Any]:
    """A method whose request is parsed, and whose answer is bytes already."""

    async def respond(data: bytes, context: Context) -> bytes:
        # As `answer_errors`, without two coroutines more for each call.
        try:
            return await handle(parse(request_type, data), context)
        except Exception as error:
            status = _status_of(error, method)
        return await context.abort_with_status(status)

    return grpc.unary_unary_rpc_method_handler(respond)


def parse(request_type: Any, data: bytes) -> Any:
    """The message in `data`. Raises Invalid where there is none, or one that no manifest could have."""
    try:
        message = request_type.FromString(data)
    except DecodeError:
        raise errors.Invalid(f"the request is no {request_type.DESCRIPTOR.full_name}") from None
    if wrong := list(impossible_times(message)):
        raise errors.Invalid.fields("the request", wrong)
    return message


class Verbs:
    """The methods of one kind's service."""

    def __init__(self, kind: Kind, reader: Reader, writer: Writer) -> None:
        self._kind = kind
        self._reader = reader
        self._writer = writer

    def handler(self) -> grpc.GenericRpcHandler:
        kind = self._kind
        methods: dict[str, tuple[Any, Unary]] = {}
        methods["Get"] = (v1.GetRequest, self._get)
        methods["List"] = (v1.ListRequest, self._list)
        if not kind.read_only:
            methods["Create"] = (kind.create_request, self._create)
            methods["Update"] = (kind.update_request, self._update)
            methods["Patch"] = (v1.PatchRequest, self._patch)
            methods["Apply"] = (v1.ApplyRequest, self._apply)
            methods["Delete"] = (v1.DeleteRequest, self._delete)
            methods["DeleteCollection"] = (v1.DeleteCollectionRequest, self._delete_collection)
            if kind.has_status:
                methods["UpdateStatus"] = (kind.update_request, self._update_status)
        handlers = {name: unary(f"{kind.service}/{name}", *method) for name, method in methods.items()}
        handlers["Watch"] = grpc.unary_stream_rpc_method_handler(self._watch)
        return grpc.method_handlers_generic_handler(kind.service, handlers)

    async def _get(self, request: v1.GetRequest, context: Context) -> bytes:
        return await self._reader.get(self._kind, request)

    async def _list(self, request: v1.ListRequest, context: Context) -> bytes:
        return await calls.answer_of(await self._reader.list(self._kind, request))

    async def _create(self, request: Any, context: Context) -> bytes:
        field_ownership.begin(self._kind, request.object, request.field_manager, now())
        written = await self._writer.create(self._kind, request.object, _demands(context), dry_run=request.dry_run)
        return written.sent

    async def _update(self, request: Any, context: Context) -> bytes:
        kind, sent = self._kind, request.object
        manager = manager_of(request.field_manager, _fence(context))

        def decide(current: Any) -> Any:
            new = lifecycle.copy_of(sent)
            lifecycle.prepare_update(kind, current, new)
            field_ownership.updated(kind, current, new, manager, now())
            return new

        written = await self._writer.change(
            kind, self._key_of(sent), decide, _demands(context), by_client=True, dry_run=request.dry_run
        )
        return written.sent

    async def _update_status(self, request: Any, context: Context) -> bytes:
        kind, sent = self._kind, request.object
        written = await self._writer.change(
            kind,
            self._key_of(sent),
            lambda current: lifecycle.with_status(kind, current, sent),
            _demands(context),
            dry_run=request.dry_run,
        )
        return written.sent

    async def _patch(self, request: v1.PatchRequest, context: Context) -> bytes:
        patch = patching.read(self._kind, request)
        manager = manager_of(request.field_manager, _fence(context))

        def decide(current: Any) -> Any:
            new = patch.patched(current)
            field_ownership.updated(self._kind, current, new, manager, now())
            return new

        written = await self._writer.change(
            self._kind,
            patch.key,
            decide,
            _demands(context),
            by_client=not patch.of_status,
            dry_run=request.dry_run,
        )
        return written.sent

    async def _apply(self, request: v1.ApplyRequest, context: Context) -> bytes:
        applied = applying.read(self._kind, request)
        written, result = await self._applied(applied, _demands(context), dry_run=request.dry_run)
        obj = self._kind.message.FromString(written.sent)
        _trail(context, result=result, warnings=validation.warnings(self._kind, obj))
        return written.sent

    async def _applied(self, applied: applying.Applied, demands: Demands, *, dry_run: bool) -> tuple[Written, str]:
        """Changes the object, or makes it where there is none; whoever is overtaken by the other case tries again."""
        kind = self._kind
        while True:
            try:
                written = await self._writer.change(
                    kind,
                    applied.key,
                    lambda current: applying.merged_object(applied, current, now()),
                    demands,
                    by_client=True,
                    dry_run=dry_run,
                )
                return written, "configured" if written.changed else "unchanged"
            except errors.Conflict:
                # Others were faster many times over. A manifest that names no version conflicts with none of them.
                if applied.resource_version:
                    raise
                continue
            except errors.NotFound:
                pass
            try:
                obj = applying.new_object(applied, now())
                return await self._writer.create(kind, obj, demands, dry_run=dry_run), "created"
            except errors.AlreadyExists:
                pass

    async def _delete(self, request: v1.DeleteRequest, context: Context) -> bytes:
        return (await delete(self._writer, self._kind, request, _fence(context))).sent

    async def _delete_collection(self, request: v1.DeleteCollectionRequest, context: Context) -> bytes:
        response = await delete_collection(self._reader, self._writer, self._kind, request, _fence(context))
        return response.SerializeToString()

    async def _watch(self, data: bytes, context: Context) -> None:
        await answer_errors(context, f"{self._kind.service}/Watch", self._send_events(data, context))

    async def _send_events(self, data: bytes, context: Context) -> None:
        watch = await self._reader.watch(self._kind, parse(v1.WatchRequest, data))
        # A client that does not read holds this task in a write; ending the watch must free it.
        task = asyncio.current_task()
        assert task is not None

        def free() -> None:
            task.cancel()

        watch.watcher.on_end = free
        try:
            # The headers tell the client that the watch stands.
            await context.send_initial_metadata(())
            calls.CALL.get().opened()
            with calls.Delivery(watch.watcher.end) as delivery:
                await watch.run(context, delivery)
        except asyncio.CancelledError:
            if watch.watcher.error is None:
                raise
            task.uncancel()
            # It hears of its end when it reads; one that does not read at all is not waited for.
            calls.cut_after(calls.LAST_WORD_SECONDS)
            raise watch.watcher.error from None
        finally:
            watch.close()

    def _key_of(self, obj: Any) -> str:
        """The key of what a client sent, in the default namespace where it names none."""
        if not obj.metadata.name:
            raise errors.Invalid.fields(
                self._kind.name, [errors.FieldError("metadata.name", "is required: it says which object is meant")]
            )
        if self._kind.namespaced and not obj.metadata.namespace:
            obj.metadata.namespace = lifecycle.DEFAULT_NAMESPACE
        return key_of(obj)


def _fence(context: Context) -> Fence | None:
    return fence_of(context.invocation_metadata())


def _demands(context: Context) -> Demands:
    return Demands(_fence(context))


def _trail(context: Context, *, result: str, warnings: list[str]) -> None:
    """Sends what an object has no field for behind the answer."""
    # Metadata is ASCII; messages need not be.
    quoted = [(WARNING_METADATA, quote(warning)) for warning in warnings]
    context.set_trailing_metadata(((RESULT_METADATA, result), *quoted))
