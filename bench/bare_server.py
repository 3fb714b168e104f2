"""The floors under the API's benchmarks: a grpc.aio server whose handlers do nothing but what nobody could leave out.

Same loop, TLS and process model as the API's server; requests and answers are bytes that nobody looks into.

- `SetAnswer`: what the others answer from now on, so that sizes are the same as the API's.
- `Echo`: the bare cost of a call.
- `FreshEcho`: the same after one linearizable Range of etcd, shared by all who wait at that moment.
- `Commit`: the etcd transaction of a create (its key is absent, its namespace unchanged), through the server's own
  group commit, with the answer as the value.
- `Publish` and `Watch`: the request is an event for every stream, which gets what has gathered since its last write,
  in turns as the server's own.
"""

from __future__ import annotations

import argparse
import asyncio
import uuid
from pathlib import Path
from typing import Any, Final, NoReturn

import grpc
import grpc.aio
import uvloop

from controlplane.event_loop import Loop
from controlplane.store import keys, wire
from controlplane.store import operations as op
from controlplane.store.commits import Committer, Write
from controlplane.store.etcd import Etcd
from controlplane.store.waking import Sleeper, Waker

SERVICE: Final = "bench.Bare"
_EVENT_FIELD: Final = b"\x0a"
_OPTIONS: Final = (("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 16 * 1024 * 1024))

Context = grpc.aio.ServicerContext[Any, Any]


class Bare:
    def __init__(self, etcd: Etcd, committer: Committer) -> None:
        self._etcd = etcd
        self._committer = committer
        self._answer = b""
        self._readers: list[asyncio.Future[None]] = []
        self._readers_came = asyncio.Event()
        self._namespace = keys.namespace_key("default")
        self._namespace_revision = 0
        self._log: list[bytes] = []
        self._waker = Waker()
        self._idle: list[Sleeper] = []
        # What was joined last: from, to, bytes.
        self._joined = (0, 0, b"")

    def handler(self) -> grpc.GenericRpcHandler:
        calls = {
            "SetAnswer": self._set_answer,
            "Echo": self._echo,
            "FreshEcho": self._fresh_echo,
            "Commit": self._commit,
            "Publish": self._publish,
        }
        handlers: dict[str, Any] = {name: grpc.unary_unary_rpc_method_handler(call) for name, call in calls.items()}
        handlers["Watch"] = grpc.unary_stream_rpc_method_handler(self._watch)
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    async def prove_freshness(self) -> NoReturn:
        """Asks etcd once for all who wait; those who come meanwhile share the next one."""
        while True:
            await self._readers_came.wait()
            self._readers_came.clear()
            readers, self._readers = self._readers, []
            await self._etcd.range(keys.EPOCH, keys_only=True)
            for reader in readers:
                if not reader.done():
                    reader.set_result(None)

    async def _set_answer(self, request: bytes, context: Context) -> bytes:
        self._answer = request
        self._log.clear()
        found = await self._etcd.get(self._namespace)
        self._namespace_revision = found.mod_revision if found is not None else 0
        return b""

    async def _echo(self, request: bytes, context: Context) -> bytes:
        return self._answer

    async def _fresh_echo(self, request: bytes, context: Context) -> bytes:
        reader = asyncio.get_running_loop().create_future()
        self._readers.append(reader)
        self._readers_came.set()
        await reader
        return self._answer

    async def _commit(self, request: bytes, context: Context) -> bytes:
        # Beside the watched keys: the API's server, which is there as well, has no work with them.
        key = f"/bench/pods/default/{uuid.uuid4()}".encode()
        compares = [op.absent(key), op.unchanged(self._namespace, self._namespace_revision)]
        outcome = await self._committer.commit(Write(compares, {key: self._answer}))
        if not outcome.succeeded:
            await context.abort(grpc.StatusCode.ABORTED, "the namespace has changed")
        return self._answer

    async def _publish(self, request: bytes, context: Context) -> bytes:
        self._log.append(b"".join((_EVENT_FIELD, wire.varint(len(request)), request)))
        self._waker.queue(self._idle)
        self._idle.clear()
        return b""

    async def _watch(self, request: bytes, context: Context) -> None:
        await context.send_initial_metadata(())
        sleeper = Sleeper()
        position = len(self._log)
        while True:
            if position == len(self._log):
                self._idle.append(sleeper)
            else:
                self._waker.queue((sleeper,))
            await sleeper.sleep()
            end = len(self._log)
            if self._joined[:2] != (position, end):
                self._joined = (position, end, b"".join(self._log[position:]))
            position = end
            await context.write(self._joined[2])


async def serve(options: argparse.Namespace) -> None:
    async with Etcd.connect([options.etcd]) as etcd, asyncio.TaskGroup() as owner:
        committer = Committer(etcd)
        bare = Bare(etcd, committer)
        owner.create_task(committer.run(), name="committer")
        owner.create_task(bare.prove_freshness(), name="freshness")
        server = grpc.aio.server(options=_OPTIONS)
        server.add_generic_rpc_handlers((bare.handler(),))
        pair = (options.tls_key.read_bytes(), options.tls_cert.read_bytes())
        credentials = grpc.ssl_server_credentials([pair], options.tls_ca.read_bytes(), require_client_auth=True)
        server.add_secure_port(f"127.0.0.1:{options.port}", credentials)
        await server.start()
        await server.wait_for_termination()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.bare_server", description="The floors under the API.")
    parser.add_argument("--etcd", required=True)
    parser.add_argument("--port", type=int, required=True)
    for name in ("ca", "cert", "key"):
        parser.add_argument(f"--tls-{name}", type=Path, required=True)
    uvloop.run(serve(parser.parse_args()), loop_factory=Loop)


if __name__ == "__main__":
    main()
