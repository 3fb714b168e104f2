"""What grpcurl does: everything it knows comes from the server's reflection, over TLS with a client's certificate."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from podwire import kinds
from tests.integration.clients.conftest import Server


class Described:
    """A server that is known by what it says of itself."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._pool = DescriptorPool()
        self._added: set[str] = set()

    async def services(self) -> set[str]:
        answer = await self._ask(list_services="")
        return {service.name for service in answer.list_services_response.service}

    async def call(self, service: str, method: str, **fields: Any) -> dict[str, Any]:
        """The answer as JSON has it."""
        await self._learn(file_containing_symbol=service)
        described = self._pool.FindServiceByName(service).methods_by_name[method]
        request = json_format.ParseDict(fields, GetMessageClass(described.input_type)())
        answer = GetMessageClass(described.output_type)
        send: Any = self._channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        return json_format.MessageToDict(await send(request, timeout=20))

    async def _ask(self, **what: str) -> reflection_pb2.ServerReflectionResponse:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(self._channel)
        stream = stub.ServerReflectionInfo()
        await stream.write(reflection_pb2.ServerReflectionRequest(**what))
        answer: reflection_pb2.ServerReflectionResponse = await stream.read()
        await stream.done_writing()
        return answer

    async def _learn(self, **what: str) -> None:
        answer = await self._ask(**what)
        for serialized in answer.file_descriptor_response.file_descriptor_proto:
            file = FileDescriptorProto.FromString(serialized)
            if file.name not in self._added:
                self._added.add(file.name)
                for needed in file.dependency:
                    await self._learn(file_by_filename=needed)
                self._pool.Add(file)


@pytest.fixture
async def described(server: Server) -> AsyncIterator[Described]:
    tls = server.tls
    credentials = grpc.ssl_channel_credentials(tls.ca.read_bytes(), tls.key.read_bytes(), tls.cert.read_bytes())
    async with grpc.aio.secure_channel(server.address, credentials) as channel:
        yield Described(channel)


async def test_a_tool_without_protos_sees_every_service(described: Described) -> None:
    services = await described.services()
    assert {kind.service for kind in kinds.KINDS} <= services
    assert (await described.call("grpc.health.v1.Health", "Check"))["status"] == "SERVING"


async def test_a_tool_without_protos_writes_reads_and_deletes(described: Described) -> None:
    meta = {"name": "from-reflection", "namespace": "default"}
    service = "podwire.v1.ConfigMaps"
    created = await described.call(service, "Create", object={"metadata": meta, "data": {"colour": "red"}})
    assert created["data"] == {"colour": "red"}
    listed = await described.call(service, "List", namespace="default", field_selector="metadata.name=from-reflection")
    assert listed["items"] == [created]
    await described.call(service, "Delete", **meta)


async def test_a_tool_without_protos_finds_the_reason_of_an_error(described: Described) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await described.call("podwire.v1.ConfigMaps", "Get", namespace="default", name="nobody")
    status = rpc_status.from_call(caught.value)
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details)
    assert (info.domain, info.reason) == ("podwire.io", "NOT_FOUND")
