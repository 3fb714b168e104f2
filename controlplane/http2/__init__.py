"""gRPC's server side over HTTP/2, in the event loop that the rest of the process runs in.

grpcio's own server hands every call and every message through a thread of its C core, which costs 50 µs each; the API's
speed was that and little else (docs/decisions/0019, with what it costs to have this here). Handlers are grpcio's
(`grpc.unary_unary_rpc_method_handler` and its siblings), so are its status codes and `grpc.aio.EOF`; header compression
is hpack's, TLS is Python's.
"""

from controlplane.http2.context import Context
from controlplane.http2.identity import Identity
from controlplane.http2.server import Options, Server, server_tls

__all__ = ["Context", "Identity", "Options", "Server", "server_tls"]
