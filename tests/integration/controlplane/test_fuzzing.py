"""Messages that nobody meant, to every method of a replica on a real etcd: each gets an answer, nothing is half done.

A failure prints what brings it back: the seed, and the request as hex.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from random import Random
from typing import Any, Final

import grpc.aio
import pytest
from google.protobuf.descriptor import MethodDescriptor

import podwire.v1
from controlplane.services.allocation import claims
from controlplane.store import keys, wire
from controlplane.store import operations as op
from controlplane.store.etcd import Etcd
from podwire import errors, kinds, manifest, v1, validation
from podwire.client import Client
from podwire.client.connection import CHANNEL_OPTIONS
from podwire.keys import key_of
from podwire.kinds import Kind
from tests.fuzzing import Fuzzer
from tests.integration.controlplane.conftest import connected
from tests.integration.controlplane.etcd_server import EtcdServer
from tests.integration.controlplane.network import eventually
from tests.integration.controlplane.replica import Api, config_map, namespace, pod, running_api, service

_SEED: Final = 20_261_122
_BATCH: Final = 500
_AT_ONCE: Final = 16
# A call that takes longer hangs: the slowest waits 10 s for an agent to open a stream.
_HANGS: Final = 40.0
_FAULTS: Final = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED)


@dataclass(frozen=True)
class Case:
    number: int
    method: MethodDescriptor
    # One message, or what is sent on a stream.
    messages: Sequence[bytes]
    metadata: Sequence[tuple[str, str]]

    def __str__(self) -> str:
        sent = " ".join(message.hex() for message in self.messages)
        return f"seed {_SEED}, case {self.number}: {self.path} {list(self.metadata)} {sent}"

    @property
    def path(self) -> str:
        assert self.method.containing_service is not None
        return f"/{self.method.containing_service.full_name}/{self.method.name}"


def methods() -> list[MethodDescriptor]:
    """All of the API's."""
    modules = [import_module(f"podwire.v1.{module.name}") for module in iter_modules(podwire.v1.__path__)]
    files = [module.DESCRIPTOR for module in modules if module.__name__.endswith("_pb2")]
    services = [service for file in files for service in file.services_by_name.values()]
    return [method for service in services for method in service.methods]


class Cases:
    """Requests for every method, valid ones among them, so that there is something to be damaged."""

    def __init__(self, seed: int) -> None:
        self.fuzzer = Fuzzer(Random(seed))
        self._methods = methods()
        self._number = 0

    def batch(self, count: int) -> list[Case]:
        return [self._case() for _ in range(count)]

    def _case(self) -> Case:
        random = self.fuzzer.random
        method = random.choice(self._methods)
        count = random.randrange(1, 4) if method.client_streaming else 1
        messages = [self._request(method) for _ in range(count)]
        metadata = [("podwire-fence", random.choice(("1:a", ":", "x", "9" * 40 + ":b", "1:/podwire/elections/")))]
        self._number += 1
        return Case(self._number, method, messages, metadata if random.random() < 0.05 else ())

    def _request(self, method: MethodDescriptor) -> bytes:
        fuzzer, random = self.fuzzer, self.fuzzer.random
        request = self._valid(method) if random.random() < 0.8 else fuzzer.message(method.input_type)
        how = random.random()
        if how < 0.6:
            request = fuzzer.damaged(request)
        data: bytes = request.SerializeToString()
        return fuzzer.bytes(data) if how > 0.85 else data

    def _valid(self, method: MethodDescriptor) -> Any:
        """A request that names things which may be there, with a whole object where it has one."""
        random = self.fuzzer.random
        request = self.fuzzer.message(method.input_type, 0.1)
        fields = request.DESCRIPTOR.fields_by_name
        for name, values in {
            "name": ("a", "b", "web", "default"),
            "namespace": ("", "default", "ns1", "ns2"),
            "resource_version": ("", "", "any", "5"),
            "label_selector": ("", "app=a", "app in (a,b),!c"),
            "field_selector": ("", "metadata.name=a"),
            "continue": ("", "", "WzUsICJ4IiwgImEiXQ=="),
            "type": ("merge", "json"),
            "propagation_policy": ("", "Orphan"),
            "uid": ("",),
        }.items():
            if name in fields:
                setattr(request, name, random.choice(values))
        kind = _kind_of(method)
        if "object" in fields and kind is not None:
            request.object.CopyFrom(self._object(kind))
        if "manifest" in fields and kind is not None:
            tree = manifest.to_tree(kind, self._object(kind))
            request.manifest = self._json(tree)
        if "patch" in fields:
            merge = {"metadata": {"labels": {self.fuzzer.text(): self.fuzzer.json(3)}}, "spec": self.fuzzer.json()}
            steps = [
                {
                    "op": random.choice(("add", "remove", "replace", "test", "move", "copy")),
                    "path": "/metadata/labels/a",
                    "from": "/metadata",
                    "value": self.fuzzer.json(2),
                }
            ]
            request.patch = self._json(merge if request.type == "merge" else steps)
        return request

    def _object(self, kind: Kind) -> Any:
        random = self.fuzzer.random
        name, space = random.choice("ab"), random.choice(("default", "ns1"))
        makers: dict[Kind, Callable[[], Any]] = {
            kinds.POD: lambda: pod(name, space, labels={"app": name}),
            kinds.SERVICE: lambda: service(name, space, type_=random.choice(("ClusterIP", "NodePort"))),
            kinds.CONFIG_MAP: lambda: config_map(name, space, key="value"),
            kinds.NAMESPACE: lambda: namespace(random.choice(("ns1", "ns2"))),
        }
        return makers.get(kind, lambda: _named(kind, name, space))()

    def _json(self, tree: Any) -> bytes:
        data = json.dumps(tree).encode()
        how = self.fuzzer.random.random()
        if how < 0.2:
            return self.fuzzer.bytes(data)
        if how < 0.4 and isinstance(tree, dict):
            return json.dumps(
                {**tree, self.fuzzer.random.choice(("spec", "metadata", "data", "x")): self.fuzzer.json()}
            ).encode()
        return b"[" * 100_000 if how > 0.995 else data


def _named(kind: Kind, name: str, space: str) -> Any:
    made: Any = kind.message()
    made.metadata.name = name
    made.metadata.namespace = space if kind.namespaced else ""
    if kind in (kinds.DEPLOYMENT, kinds.REPLICA_SET):
        made.spec.selector.match_labels["app"] = name
        made.spec.template.metadata.labels["app"] = name
        made.spec.template.spec.containers.add(name="main", image="docker.io/library/busybox:1")
    if kind is kinds.ENDPOINT_SLICE:
        made.address_type = "IPv4"
        made.endpoints.add().addresses.append("10.244.0.2")
    if kind is kinds.EVENT:
        made.involved_object.kind = "Pod"
        made.involved_object.namespace = space
        made.reason = "Fuzzed"
    return made


def _kind_of(method: MethodDescriptor) -> Kind | None:
    assert method.containing_service is not None
    return next((kind for kind in kinds.KINDS if kind.service == method.containing_service.full_name), None)


class Followers:
    """What a watch of each kind makes of everything that happens."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.state: dict[str, dict[str, Any]] = {kind.name: {} for kind in kinds.KINDS}
        self.owner: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self.owner = [asyncio.create_task(self._follow(kind)) for kind in kinds.KINDS]

    async def _follow(self, kind: Kind) -> None:
        state = self.state[kind.name]
        async for event in self._client.kind(kind).watch(send_initial_events=True):
            if event.type == "DELETED":
                state.pop(key_of(event.object), None)
            elif event.type != "BOOKMARK":
                state[key_of(event.object)] = event.object

    async def stop(self) -> None:
        for task in self.owner:
            task.cancel()
        await asyncio.wait(self.owner)


@pytest.fixture(scope="module")
async def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Api, Etcd]]:
    server = EtcdServer(tmp_path_factory.mktemp("etcd"))
    await server.start()
    async with connected(server) as etcd, running_api(server.url) as api:
        await api.client.namespaces.create(namespace("ns1"))
        yield api, etcd
    await server.kill()


async def fuzz(api: Api, etcd: Etcd, seed: int, count: int) -> None:
    cases = Cases(seed)
    followers = Followers(api.client)
    followers.start()
    answered: dict[grpc.StatusCode, int] = {}
    try:
        async with grpc.aio.insecure_channel(api.endpoint, options=CHANNEL_OPTIONS) as channel:
            for _ in range(count // _BATCH):
                waiting = iter(cases.batch(_BATCH))

                async def work(cases: Any = waiting) -> None:
                    for case in cases:
                        code = await ask(channel, case)
                        assert code not in _FAULTS, f"{code}: {case}"
                        answered[code] = answered.get(code, 0) + 1

                async with asyncio.TaskGroup() as owner:
                    for _ in range(_AT_ONCE):
                        owner.create_task(work())
                await check_store(api, etcd, followers)
    finally:
        await followers.stop()
    # Where everything is refused, or nothing, the cases test little.
    assert answered[grpc.StatusCode.OK] > count / 20, answered
    assert answered[grpc.StatusCode.INVALID_ARGUMENT] > count / 20, answered


async def ask(channel: grpc.aio.Channel, case: Case) -> grpc.StatusCode:
    """The status of a call; OK also where a stream stands, which is then left."""
    metadata = tuple(case.metadata)
    try:
        async with asyncio.timeout(_HANGS):
            if case.method.client_streaming:
                stream: Any = channel.stream_stream(case.path)(metadata=metadata)
                try:
                    for message in case.messages:
                        await stream.write(message)
                    await stream.done_writing()
                    while await stream.read() is not grpc.aio.EOF:
                        pass
                except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
                    pass  # The server has ended it, perhaps while more was written: its status says why.
                return await code_of(stream)
            if case.method.server_streaming:
                open_: Any = channel.unary_stream(case.path)
                watch = open_(case.messages[0], metadata=metadata)
                try:
                    await watch.initial_metadata()
                    if not watch.done():
                        return grpc.StatusCode.OK
                    return await code_of(watch)
                finally:
                    watch.cancel()
            call: Any = channel.unary_unary(case.path)
            await call(case.messages[0], metadata=metadata)
            return grpc.StatusCode.OK
    except grpc.aio.AioRpcError as error:
        return error.code()
    except TimeoutError:
        return grpc.StatusCode.DEADLINE_EXCEEDED


async def code_of(call: Any) -> grpc.StatusCode:
    code: grpc.StatusCode = await call.code()
    if code is grpc.StatusCode.INTERNAL and await call.details() == "Internal error from Core":
        # This client's own words for a write that the end of the call has overtaken: the server's status is lost.
        return grpc.StatusCode.CANCELLED
    return code


async def check_store(api: Api, etcd: Etcd, followers: Followers) -> None:
    """Every object is whole and the same however it is asked for, and allocations are those of the objects."""

    async def agree() -> bool:
        found = await whole_objects(etcd)
        lists = {kind.name: await api.client.kind(kind).list() for kind in found_by_all}
        listed = {name: {key_of(item): item for item in of.items} for name, of in lists.items()}
        return all(listed[kind.name] == found[kind.name] == followers.state[kind.name] for kind in found_by_all)

    # Node sessions go when their leases do, at any moment.
    found_by_all = [kind for kind in kinds.KINDS if kind is not kinds.NODE_SESSION]
    # Watches may be a little behind, and a write whose caller has gone may still happen.
    await eventually(agree)


async def whole_objects(etcd: Etcd) -> dict[str, dict[str, Any]]:
    """What etcd has at one revision: by kind and key."""
    stored = await etcd.range(keys.PREFIX, op.prefix_end(keys.PREFIX))
    found: dict[str, dict[str, Any]] = {kind.name: {} for kind in kinds.KINDS}
    taken: dict[bytes, str] = {}
    wanted: dict[bytes, str] = {}
    for item in stored.items:
        if item.key.startswith(keys.ALLOCATIONS):
            taken[item.key] = item.value.decode()
        parsed = keys.parse(item.key)
        if parsed is None:
            continue
        kind, key = parsed
        obj: Any = kind.message.FromString(wire.stamp(item.value, item.mod_revision))
        assert key_of(obj) == key
        assert not kind.namespaced or obj.metadata.namespace
        assert kind.read_only or not validation.validate(kind, obj), (
            f"{kind.name} {key}: {validation.validate(kind, obj)}"
        )
        found[kind.name][key] = obj
        wanted.update({claim.key: f"{kind.singular} {key}" for claim in claims(kind, obj)})
    assert taken == wanted
    return found


async def test_requests_that_nobody_meant_are_answered_and_leave_nothing_half_done(fuzzed: tuple[Api, Etcd]) -> None:
    await fuzz(*fuzzed, _SEED, 10_000)


async def test_metadata_that_nobody_meant_gets_an_answer(fuzzed: tuple[Api, Etcd]) -> None:
    api, _ = fuzzed
    async with grpc.aio.insecure_channel(api.endpoint) as channel:
        get: Any = channel.unary_unary("/podwire.v1.Namespaces/Get")
        request = v1.GetRequest(name="default").SerializeToString()
        assert await get(request, metadata=(("x-huge", "x" * 4_000),))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await get(request, metadata=(("x-huge", "x" * 100_000),))
        assert isinstance(errors.from_rpc_error(refused.value), errors.TooLarge)
