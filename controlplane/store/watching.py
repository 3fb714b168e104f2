"""One watch of etcd: every change of a range, exactly once, in order, through lost connections.

The watch is one RPC, read in the caller's task: HTTP/2's flow control is the back-pressure, there is no queue to fill.
Its position is the revision of the last change delivered, nothing else: during a catch-up a response's header carries
the store's revision and says nothing about what has been sent. Only whole revisions are delivered, so that a watch that
is opened again at the next revision misses nothing and repeats nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Final

import grpc.aio
import structlog

from controlplane.store.api import etcd_pb2 as pb
from controlplane.store.api.kv_pb2 import Event
from controlplane.store.endpoints import Compacted, Endpoints, meaning, reason_of
from podwire import errors
from podwire.backoff import Backoff

log = structlog.get_logger(__name__)

# A member that has lost its leader ends the watch instead of going silent.
_METADATA: Final = (("hasleader", "true"),)


@dataclass(frozen=True, slots=True)
class Batch:
    """Changes of one or more whole revisions; `revision` is the last one's."""

    events: Sequence[Event]
    revision: int


async def watch(endpoints: Endpoints, key: bytes, range_end: bytes, start_revision: int) -> AsyncGenerator[Batch, None]:
    """See `Etcd.watch`."""
    # The next revision to deliver; 0: from whenever the server creates the watch.
    position = start_revision
    backoff = Backoff(0.02, 1.0)
    while True:
        member = endpoints.current
        call = member.watch.Watch(metadata=_METADATA)
        try:
            create = pb.WatchCreateRequest(key=key, range_end=range_end, start_revision=position, fragment=True)
            await call.write(pb.WatchRequest(create_request=create))
            pieces: list[Event] = []
            async for response in call:
                if response.canceled:
                    raise _cancellation(response, position)
                if response.created:
                    position = position or response.header.revision + 1
                    backoff.reset()
                    continue
                pieces.extend(response.events)
                if response.fragment or not pieces:
                    continue
                batch = Batch(pieces, pieces[-1].kv.mod_revision)
                pieces = []
                position = batch.revision + 1
                yield batch
        except grpc.aio.AioRpcError as error:
            if not isinstance(meaning(error), errors.Unavailable):
                raise meaning(error) from None
            log.debug(
                "etcd watch lost, opening it again", member=member.address, position=position, error=reason_of(error)
            )
        finally:
            call.cancel()
        endpoints.failed(member)
        await asyncio.sleep(backoff.next())


def _cancellation(response: pb.WatchResponse, position: int) -> errors.PodwireError:
    if response.compact_revision:
        return Compacted(
            f"revision {position} is older than the history that etcd keeps, which begins with "
            f"{response.compact_revision}",
            response.compact_revision,
        )
    return errors.Internal(f"etcd ended the watch: {response.cancel_reason or 'no reason given'}")
