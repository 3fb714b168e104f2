"""HTTP probes, as Kubernetes makes them (pkg/probe/http): 200 to 399 is success, whatever the certificate.

A redirect to the same host is followed, up to ten; one to another host counts as success with a warning, because the
container did answer. Each probe opens a connection of its own and closes it.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import Final, Self

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from nodeagent.probes.ports import NoSuchPort, port_number
from nodeagent.probes.verdicts import Answer, Result
from podwire import v1

USER_AGENT: Final = f"podwire-probe/{version('podwire')}"
MAX_REDIRECTS: Final = 10
MAX_BODY: Final = 10 * 1024


class HttpProber:
    """One client session for all probes; nothing is kept between two of them."""

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True, limit=0, ssl=False, use_dns_cache=False),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def probe(self, action: v1.HTTPGetAction, container: v1.Container, address: str, timeout: float) -> Answer:
        """`address` is the pod's; `timeout` in seconds covers the redirects too."""
        try:
            url = probe_url(action, container, address)
        except NoSuchPort as error:
            return Answer(Result.UNKNOWN, str(error))
        try:
            # The path is sent as it is written, its query included.
            return await self._follow(URL(url, encoded=True), _headers(action), aiohttp.ClientTimeout(total=timeout))
        except TimeoutError:
            why = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        except aiohttp.ClientConnectorError as error:
            number = error.os_error.errno
            reason = os.strerror(number).lower() if number else str(error.os_error)
            why = f"dial tcp {error.host}:{error.port}: connect: {reason}"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            why = str(error) or type(error).__name__
        return Answer(Result.FAILURE, f'Get "{url}": {why}')

    async def _follow(self, url: URL, headers: CIMultiDict[str], timeout: aiohttp.ClientTimeout) -> Answer:
        for _ in range(MAX_REDIRECTS + 1):
            async with self._session.get(url, headers=headers, allow_redirects=False, timeout=timeout) as response:
                await response.content.read(MAX_BODY)
                location = response.headers.get("Location")
                if response.status in (301, 302, 303, 307, 308) and location:
                    target = url.join(URL(location, encoded=True))
                    if target.host != url.host:
                        return Answer(Result.SUCCESS, "Probe terminated redirects, Response body: ", warning=True)
                    url = target
                    continue
                if 200 <= response.status < 400:
                    return Answer(Result.SUCCESS)
                return Answer(Result.FAILURE, f"HTTP probe failed with statuscode: {response.status}")
        return Answer(Result.FAILURE, f'Get "{url}": stopped after {MAX_REDIRECTS} redirects')


def probe_url(action: v1.HTTPGetAction, container: v1.Container, address: str) -> str:
    scheme = (action.scheme or "HTTP").lower()
    host = action.host or address
    if ":" in host:
        host = f"[{host}]"
    path = action.path or "/"
    if not path.startswith("/"):
        path = "/" + path
    return f"{scheme}://{host}:{port_number(action.port, container)}{path}"


def _headers(action: v1.HTTPGetAction) -> CIMultiDict[str]:
    headers: CIMultiDict[str] = CIMultiDict()
    for header in action.http_headers:
        headers.add(header.name, header.value)
    headers.setdefault("User-Agent", USER_AGENT)
    headers.setdefault("Accept", "*/*")
    headers.setdefault("Connection", "close")
    return headers
