"""Connections of a load generator to either kind of server: gRPC, or a Kubernetes apiserver's HTTP/1.1."""

from __future__ import annotations

from typing import Final

from bench import rest
from bench.http2 import UNARY_WINDOW, Connection, Tls
from bench.rest import RestConnection

_HOST: Final = "127.0.0.1"

AnyConnection = Connection | RestConnection


class Server:
    """Where connections go; all of them share one TLS context."""

    def __init__(self, port: int, tls: Tls, *, speaks_rest: bool) -> None:
        self._port = port
        self._speaks_rest = speaks_rest
        self._context = rest.context(tls.ca) if speaks_rest else tls.context()

    def connect(self, path: str, window: int = UNARY_WINDOW) -> AnyConnection:
        """For calls of the method at `path`; requests of HTTP/1.1 name their own."""
        if self._speaks_rest:
            return RestConnection(_HOST, self._port, self._context)
        return Connection(_HOST, self._port, self._context, path, window=window)
