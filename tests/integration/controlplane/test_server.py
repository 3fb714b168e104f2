"""The server itself: who may connect, and what any gRPC tool can ask it."""

from __future__ import annotations

import asyncio
import datetime
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from controlplane.shared_address import AddressTakenError
from podwire import errors, kinds
from podwire.client import Client, RetryPolicy, Settings, Tls
from tests.integration.controlplane.etcd_server import EtcdServer, free_ports
from tests.integration.controlplane.replica import Api, running_api


def certificates(folder: Path, name: str) -> Tls:
    """A CA of its own, and a certificate of it for the loopback address."""
    now = datetime.datetime.now(datetime.UTC)

    def builder(subject: str, issuer: str, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder().subject_name(_name(subject)).issuer_name(_name(issuer)).public_key(key)
        made = made.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(minutes=1))
        return made.not_valid_after(now + datetime.timedelta(hours=1))

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = builder(f"{name} CA", f"{name} CA", ca_key.public_key()).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    leaf = builder(name, f"{name} CA", key.public_key()).add_extension(
        x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False
    )
    files = Tls(folder / f"{name}-ca.pem", folder / f"{name}.pem", folder / f"{name}.key")
    files.ca.write_bytes(ca.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    files.cert.write_bytes(leaf.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@pytest.fixture
async def address(etcd_server: EtcdServer, tmp_path: Path) -> AsyncIterator[str]:
    """Where a replica with TLS listens."""
    listen = f"127.0.0.1:{free_ports(1)[0]}"
    async with running_api(etcd_server.url, listen=listen, tls=certificates(tmp_path, "ours")):
        yield f"localhost:{listen.partition(':')[2]}"


async def test_a_certificate_of_the_ca_opens_the_address(address: str, tmp_path: Path) -> None:
    tls = Tls(tmp_path / "ours-ca.pem", tmp_path / "ours.pem", tmp_path / "ours.key")
    async with Client.connect(address, tls=tls) as client:
        assert (await client.namespaces.get("default")).status.phase == "Active"


async def test_a_certificate_of_another_ca_does_not(address: str, tmp_path: Path) -> None:
    strange = certificates(tmp_path, "theirs")
    tls = Tls(tmp_path / "ours-ca.pem", strange.cert, strange.key)
    async with Client.connect(address, tls=tls, settings=Settings(RetryPolicy(patience=1.0))) as client:
        with pytest.raises(errors.Unavailable):
            await client.namespaces.get("default")


async def test_no_certificate_does_not(address: str, tmp_path: Path) -> None:
    credentials = grpc.ssl_channel_credentials((tmp_path / "ours-ca.pem").read_bytes())
    async with grpc.aio.secure_channel(address, credentials) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=3)
    assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


async def test_the_socket_is_for_its_owner_alone(api: Api) -> None:
    assert stat.S_IMODE(api.socket.stat().st_mode) == 0o600


async def test_health_and_reflection_answer_any_tool(api: Api) -> None:
    async with grpc.aio.insecure_channel(api.endpoint) as channel:
        for service in ("", "podwire.v1.Pods", "podwire.v1.Agents"):
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        await reflection.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        listed = await reflection.read()
        names = {service.name for service in listed.list_services_response.service}
        assert {kind.service for kind in kinds.KINDS} | {"podwire.v1.Agents"} <= names
        await reflection.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol="podwire.v1.Pods"))
        described = await reflection.read()
        assert described.file_descriptor_response.file_descriptor_proto
        await reflection.done_writing()


async def test_a_second_server_on_the_same_address_is_refused(etcd_server: EtcdServer, tmp_path: Path) -> None:
    listen = f"127.0.0.1:{free_ports(1)[0]}"
    tls = certificates(tmp_path, "ours")
    async with running_api(etcd_server.url, listen=listen, tls=tls):
        with pytest.raises(AddressTakenError, match=listen):
            async with running_api(etcd_server.url, listen=listen, tls=tls):
                pass


async def test_an_idle_client_that_pings_keeps_its_connection(api: Api) -> None:
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.keepalive_time_ms", 1_100),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    async with grpc.aio.insecure_channel(api.endpoint, options=options) as channel:
        await channel.channel_ready()
        # gRPC's default server closes the connection with the third ping in five minutes.
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)


async def test_metrics_tell_what_the_replica_holds(etcd_server: EtcdServer) -> None:
    port = free_ports(1)[0]
    async with running_api(etcd_server.url, metrics=f"127.0.0.1:{port}") as api:
        await api.client.namespaces.get("default")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
        text = (await reader.read()).decode()
        writer.close()
    assert 'podwire_objects{kind="Namespace"}' in text
    assert "podwire_cache_revision " in text
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
