"""HTTP probes against a real server on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from nodeagent.probes.http import USER_AGENT, HttpProber, probe_url
from nodeagent.probes.verdicts import Answer, Result
from podwire import v1

Probe = Callable[..., Awaitable[Answer]]


class Server:
    """Answers as its paths say, and remembers what it was asked."""

    def __init__(self) -> None:
        self.requests: list[web.BaseRequest] = []
        self.port = 0

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request)
        kind, _, value = request.path.strip("/").partition("/")
        match kind:
            case "status":
                return web.Response(status=int(value), text="body")
            case "large":
                return web.Response(text="x" * 1_000_000)
            case "slow":
                await asyncio.sleep(30)
            case "loop":
                return web.Response(status=302, headers={"Location": "/loop"})
            case "near":
                return web.Response(status=302, headers={"Location": f"/status/{value}"})
            case "far":
                return web.Response(status=302, headers={"Location": "http://elsewhere.example/"})
        return web.Response(text="ok")


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    runner = web.ServerRunner(web.Server(made.answer), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.port = runner.addresses[0][1]
    yield made
    await runner.cleanup()


@pytest.fixture
async def probe(server: Server) -> AsyncIterator[Probe]:
    async with HttpProber() as prober:

        async def ask(path: str, *, timeout: float = 5, headers: dict[str, str] | None = None) -> Answer:
            action = v1.HTTPGetAction(path=path, port=v1.IntOrString(int=server.port))
            for name, value in (headers or {}).items():
                action.http_headers.add(name=name, value=value)
            return await prober.probe(action, v1.Container(name="web"), "127.0.0.1", timeout)

        yield ask


@pytest.mark.parametrize("status", [200, 204, 301, 399])
async def test_two_and_three_hundreds_are_success(probe: Probe, status: int) -> None:
    assert await probe(f"/status/{status}") == Answer(Result.SUCCESS)


@pytest.mark.parametrize("status", [400, 404, 500, 503])
async def test_four_and_five_hundreds_are_failure_in_kubernetes_words(probe: Probe, status: int) -> None:
    assert await probe(f"/status/{status}") == Answer(Result.FAILURE, f"HTTP probe failed with statuscode: {status}")


async def test_what_the_server_is_asked(probe: Probe, server: Server) -> None:
    await probe("/path?q=a%20b", headers={"X-Custom-Header": "Awesome", "Host": "web.example"})
    request = server.requests[0]
    assert request.raw_path == "/path?q=a%20b"
    assert request.headers["X-Custom-Header"] == "Awesome"
    assert request.headers["User-Agent"] == USER_AGENT
    assert request.headers["Host"] == "web.example"
    assert request.headers["Connection"] == "close"


async def test_a_redirect_to_the_same_host_is_followed(probe: Probe) -> None:
    assert (await probe("/near/200")).result is Result.SUCCESS
    assert (await probe("/near/404")).message == "HTTP probe failed with statuscode: 404"


async def test_a_redirect_to_another_host_is_success_with_a_warning(probe: Probe) -> None:
    answer = await probe("/far")
    assert answer.result is Result.SUCCESS
    assert answer.warning


async def test_endless_redirects_are_failure(probe: Probe) -> None:
    assert "stopped after 10 redirects" in (await probe("/loop")).message


async def test_a_slow_server_is_failure_after_the_timeout(probe: Probe) -> None:
    answer = await probe("/slow", timeout=0.2)
    assert answer.result is Result.FAILURE
    assert "context deadline exceeded" in answer.message


async def test_only_the_beginning_of_a_large_body_is_read(probe: Probe) -> None:
    assert (await probe("/large")).result is Result.SUCCESS


async def test_a_refused_connection_is_failure() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    async with HttpProber() as prober:
        action = v1.HTTPGetAction(path="/", port=v1.IntOrString(int=port))
        answer = await prober.probe(action, v1.Container(name="web"), "127.0.0.1", 1)
    assert answer.result is Result.FAILURE
    assert answer.message == (f'Get "http://127.0.0.1:{port}/": dial tcp 127.0.0.1:{port}: connect: connection refused')


def test_the_address_that_is_asked() -> None:
    web_container = v1.Container(name="web", ports=[v1.ContainerPort(name="http", container_port=8080)])

    def url(**fields: object) -> str:
        return probe_url(v1.HTTPGetAction(**fields), web_container, "10.244.1.2")  # type: ignore[arg-type]

    assert url(port=v1.IntOrString(int=80)) == "http://10.244.1.2:80/"
    assert url(path="healthz", port=v1.IntOrString(string="http")) == "http://10.244.1.2:8080/healthz"
    assert url(path="/", port=v1.IntOrString(int=443), scheme="HTTPS") == "https://10.244.1.2:443/"
    assert url(path="/", port=v1.IntOrString(int=80), host="1.2.3.4") == "http://1.2.3.4:80/"


async def test_a_port_name_that_the_container_does_not_have_is_unknown() -> None:
    async with HttpProber() as prober:
        action = v1.HTTPGetAction(port=v1.IntOrString(string="admin"))
        answer = await prober.probe(action, v1.Container(name="web"), "127.0.0.1", 1)
    assert answer == Answer(Result.UNKNOWN, 'container "web" has no port named "admin"')
