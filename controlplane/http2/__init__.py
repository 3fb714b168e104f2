"""gRPC over HTTP/2, both ends of it, in the event loop that the rest of the process runs in.

grpcio hands every call and every message through a thread of its C core, which costs 50 µs each and two wake-ups; the
API's speed was that and little else (docs/decisions/0019, with what it costs to have this here). Handlers and stubs are
grpcio's, so are the status codes, `grpc.aio.AioRpcError` and `grpc.aio.EOF`; header compression is hpack's, TLS is
Python's.
"""

from controlplane.http2.client import Channel
from controlplane.http2.connection import Options
from controlplane.http2.context import Context
from controlplane.http2.identity import Identity
from controlplane.http2.server import Server
from controlplane.http2.tls import client_tls, server_tls

__all__ = ["Channel", "Context", "Identity", "Options", "Server", "client_tls", "server_tls"]
