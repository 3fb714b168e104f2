"""A pods service in the test's own process that can be made to fail in ways the real one hardly can."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from podwire import errors, v1
from podwire.client import Tls
from podwire.keys import key_of
from podwire.v1.pod_pb2_grpc import PodsServicer, add_PodsServicer_to_server


class FakePods(PodsServicer):
    """Objects with a history of events; every fault is a method or an attribute."""

    def __init__(self) -> None:
        self.epoch = "first"
        self.revision = 10
        self.compacted = 0
        self.objects: dict[str, v1.Pod] = {}
        # (revision, type, object); responses hold `batch` revisions at most.
        self.history: list[tuple[int, str, v1.Pod]] = []
        self.batch = 100
        self.page = 100
        # Answers of lists carry this many revisions less than they should.
        self.behind = 0
        # Streams say nothing, not even a bookmark.
        self.silent = False
        # What the next calls of a verb fail with, after they have taken effect or not.
        self.failures: dict[str, deque[errors.PodwireError]] = {}
        self.calls: Counter[str] = Counter()
        # Watches that are open.
        self.streams = 0
        self.requests: list[tuple[str, Any]] = []
        self.metadata: list[tuple[str, str]] = []
        self._changed = asyncio.Event()
        self._breaks = asyncio.Event()

    def put(self, *names: str, uid: str = "", **labels: str) -> None:
        """Creates or changes pods, all in one transaction."""
        self.revision += 1
        for name in names:
            pod = v1.Pod(
                metadata=v1.ObjectMeta(
                    name=name,
                    namespace="default",
                    uid=uid or f"uid-of-{name}",
                    resource_version=str(self.revision),
                    labels=labels,
                )
            )
            kind = "MODIFIED" if key_of(pod) in self.objects else "ADDED"
            self.objects[key_of(pod)] = pod
            self.history.append((self.revision, kind, pod))
        self._wake()

    def remove(self, name: str) -> None:
        self.revision += 1
        pod = v1.Pod()
        pod.CopyFrom(self.objects.pop(f"default/{name}"))
        pod.metadata.resource_version = str(self.revision)
        self.history.append((self.revision, "DELETED", pod))
        self._wake()

    def bookmark(self) -> None:
        """Every watcher hears of the current revision."""
        self.revision += 1
        pod = v1.Pod(metadata=v1.ObjectMeta(resource_version=str(self.revision)))
        self.history.append((self.revision, "BOOKMARK", pod))
        self._wake()

    def replay(self) -> None:
        """Sends every watcher again what it has had already."""
        self.history.append(self.history[-1])
        self._wake()

    def compact(self) -> None:
        self.revision += 1
        self.compacted = self.revision
        self.history.clear()

    def restore(self, epoch: str, revision: int) -> None:
        """Another store with the same objects takes over, as after a restore from a backup."""
        self.epoch, self.revision, self.compacted = epoch, revision, 0
        self.history.clear()

    def break_streams(self) -> None:
        self._breaks.set()
        self._breaks = asyncio.Event()

    def fail(self, verb: str, *failures: errors.PodwireError) -> None:
        self.failures.setdefault(verb, deque()).extend(failures)

    async def until(self, condition: Callable[[], bool], seconds: float = 30) -> None:
        """Waits for something that calls make true."""
        async with asyncio.timeout(seconds):
            while not condition():
                await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _called(self, verb: str, request: Any, context: Any) -> None:
        self.calls[verb] += 1
        self.requests.append((verb, request))
        self.metadata = [(key, value) for key, value in context.invocation_metadata() if key.startswith("podwire")]
        self._wake()
        if self.failures.get(verb):
            await context.abort_with_status(errors.to_grpc_status(self.failures[verb].popleft()))

    async def Create(self, request: v1.PodCreateRequest, context: Any) -> v1.Pod:
        await self._called("Create", request, context)
        self.put(request.object.metadata.name)
        return self.objects[key_of(request.object)]

    async def Get(self, request: v1.GetRequest, context: Any) -> v1.Pod:
        await self._called("Get", request, context)
        return self.objects[f"{request.namespace}/{request.name}"]

    async def Update(self, request: v1.PodUpdateRequest, context: Any) -> v1.Pod:
        await self._called("Update", request, context)
        return request.object

    async def UpdateStatus(self, request: v1.PodUpdateRequest, context: Any) -> v1.Pod:
        await self._called("UpdateStatus", request, context)
        return request.object

    async def Apply(self, request: v1.ApplyRequest, context: Any) -> v1.Pod:
        await self._called("Apply", request, context)
        context.set_trailing_metadata(
            (
                ("podwire-result", "created"),
                ("podwire-warning", "spec.affinity%3A has no effect"),
                ("podwire-warning", "two"),
            )
        )
        return v1.Pod()

    async def Patch(self, request: v1.PatchRequest, context: Any) -> v1.Pod:
        await self._called("Patch", request, context)
        return self.objects[f"{request.namespace}/{request.name}"]

    async def DeleteCollection(self, request: v1.DeleteCollectionRequest, context: Any) -> v1.DeleteCollectionResponse:
        await self._called("DeleteCollection", request, context)
        return v1.DeleteCollectionResponse()

    async def Delete(self, request: v1.DeleteRequest, context: Any) -> v1.Pod:
        await self._called("Delete", request, context)
        return v1.Pod()

    async def Bind(self, request: v1.BindRequest, context: Any) -> v1.Pod:
        await self._called("Bind", request, context)
        return v1.Pod()

    async def List(self, request: v1.ListRequest, context: Any) -> v1.PodList:
        await self._called("List", request, context)
        items = list(self.objects.values())
        at = int(getattr(request, "continue") or 0)
        answer = v1.PodList(items=items[at : at + self.page])
        answer.metadata.resource_version = str(self.revision - self.behind)
        answer.metadata.epoch = self.epoch
        if at + self.page < len(items):
            setattr(answer.metadata, "continue", str(at + self.page))
        return answer

    async def Watch(self, request: v1.WatchRequest, context: Any) -> AsyncIterator[v1.PodWatchResponse]:
        await self._called("Watch", request, context)
        position = int(request.resource_version)
        if position < self.compacted or request.epoch != self.epoch:
            await context.abort_with_status(errors.to_grpc_status(errors.HistoryLost("compacted")))
        sent = next((i for i, (revision, _, _) in enumerate(self.history) if revision > position), len(self.history))
        self.streams += 1
        try:
            async for response in self._follow(sent, context):
                yield response
        finally:
            self.streams -= 1
            self._wake()

    async def _follow(self, sent: int, context: Any) -> AsyncIterator[v1.PodWatchResponse]:
        broken = self._breaks
        while True:
            if broken.is_set():
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the stream is broken on purpose")
            fresh = [] if self.silent else self.history[sent:]
            if fresh:
                last = sorted({revision for revision, _, _ in fresh})[: self.batch][-1]
                fresh = [event for event in fresh if event[0] <= last]
                sent += len(fresh)
                events = [v1.PodWatchEvent(type=kind, object=pod) for _, kind, pod in fresh]
                yield v1.PodWatchResponse(events=events, epoch=self.epoch)
                continue
            waits = [asyncio.ensure_future(event.wait()) for event in (self._changed, broken)]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    async def Logs(self, request: v1.LogsRequest, context: Any) -> AsyncIterator[v1.LogsChunk]:
        await self._called("Logs", request, context)
        for line in (b"one\n", b"two\n"):
            yield v1.LogsChunk(data=line)

    async def Exec(self, requests: AsyncIterator[v1.ExecInput], context: Any) -> AsyncIterator[v1.ExecOutput]:
        """Echoes stdin, names the size of the terminal on stderr, and exits with 3 when stdin ends."""
        async for request in requests:
            match request.WhichOneof("input"):
                case "start":
                    await self._called("Exec", request.start, context)
                case "stdin":
                    yield v1.ExecOutput(stdout=request.stdin)
                case "resize":
                    yield v1.ExecOutput(stderr=f"{request.resize.rows}x{request.resize.columns}".encode())
                case _:
                    break
        yield v1.ExecOutput(exit_code=3)


@asynccontextmanager
async def serving(pods: FakePods, socket: Path) -> AsyncIterator[str]:
    """A server for `pods` at the endpoint that this gives."""
    server = grpc.aio.server()
    server.add_insecure_port(f"unix:{socket}")
    async with _started(server, pods):
        yield f"unix:{socket}"


@asynccontextmanager
async def serving_tls(pods: FakePods, tls: Tls) -> AsyncIterator[str]:
    """The same on a port of the loopback, for clients that show a certificate of the CA."""
    server = grpc.aio.server()
    pair = (tls.key.read_bytes(), tls.cert.read_bytes())
    credentials = grpc.ssl_server_credentials([pair], tls.ca.read_bytes(), require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    async with _started(server, pods):
        yield f"127.0.0.1:{port}"


@asynccontextmanager
async def _started(server: grpc.aio.Server, pods: FakePods) -> AsyncIterator[None]:
    add_PodsServicer_to_server(pods, server)
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)
