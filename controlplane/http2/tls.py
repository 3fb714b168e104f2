"""TLS with certificates on both sides, for HTTP/2."""

from __future__ import annotations

import ssl
from pathlib import Path


def server_tls(ca: Path, cert: Path, key: Path) -> ssl.SSLContext:
    """For clients that show a certificate of `ca`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(ca))
    context.verify_mode = ssl.CERT_REQUIRED
    return _with(context, cert, key)


def client_tls(ca: Path, cert: Path, key: Path) -> ssl.SSLContext:
    """For a server that shows a certificate of `ca` with the name or address by which it is called."""
    return _with(ssl.create_default_context(cafile=str(ca)), cert, key)


def _with(context: ssl.SSLContext, cert: Path, key: Path) -> ssl.SSLContext:
    context.load_cert_chain(str(cert), str(key))
    context.set_alpn_protocols(["h2"])
    return context
