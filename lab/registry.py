"""Puts images into the lab's registry, over the OCI distribution protocol.

Synchronous and with the standard library: it runs in a thread that has entered the registry's network namespace, and a
few uploads to a neighbour need no more.
"""

import http.client
from collections.abc import Iterable
from urllib.parse import urlencode, urlsplit

from lab.errors import RegistryError
from lab.oci import Blob, Image

_TIMEOUT_SECONDS = 30.0


def push(address: str, port: int, images: Iterable[Image]) -> None:
    """Uploads what the registry has not got of the images, and gives them their names."""
    connection = http.client.HTTPConnection(address, port, timeout=_TIMEOUT_SECONDS)
    try:
        for image in images:
            for name, tag in image.names:
                for blob in (*image.layers, image.config):
                    _upload(connection, name, blob)
                manifest = image.manifest
                _request(
                    connection,
                    "PUT",
                    f"/v2/{name}/manifests/{tag}",
                    manifest.content,
                    {"Content-Type": manifest.media_type},
                    expect={201},
                )
    finally:
        connection.close()


def _upload(connection: http.client.HTTPConnection, name: str, blob: Blob) -> None:
    status, _ = _request(connection, "HEAD", f"/v2/{name}/blobs/{blob.digest}", expect={200, 404})
    if status == 200:
        return
    _, headers = _request(connection, "POST", f"/v2/{name}/blobs/uploads/", expect={202})
    location = urlsplit(headers["Location"])
    query = f"{location.query}&{urlencode({'digest': blob.digest})}".lstrip("&")
    _request(
        connection,
        "PUT",
        f"{location.path}?{query}",
        blob.content,
        {"Content-Type": "application/octet-stream"},
        expect={201},
    )


def _request(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    *,
    expect: set[int],
) -> tuple[int, http.client.HTTPMessage]:
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    answer = response.read()
    if response.status not in expect:
        raise RegistryError(f"{method} {path} was answered {response.status}: {answer[:500].decode(errors='replace')}")
    return response.status, response.headers
