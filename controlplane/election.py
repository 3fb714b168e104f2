"""Who acts: of all schedulers (and of all controllers) of a cluster, the one whose key stands in etcd.

The key `/podwire/elections/<role>` lives under the holder's lease. Two things keep a second one from acting beside it.
The holder stops by itself a tenth of a life before its lease may have expired, counted on its own monotonic clock from
the moment the last renewal was sent. And every write it makes names the key and its create revision, which the store
compares in the write's transaction: a holder that was frozen and comes to too late writes nothing (errors.Fenced).

A candidate that is killed leaves its key behind until the lease expires. Its successor in the same run folder does not
wait for that: the lock on a file in the folder proves that the predecessor is dead, and the file has the name under
which it was elected.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

import structlog

from controlplane.store.endpoints import Compacted
from controlplane.store.etcd import Etcd
from controlplane.store.operations import absent, created_at, delete, put
from podwire.client import Fence

log = structlog.get_logger(__name__)

KEY_PREFIX: Final = "/podwire/elections/"
# Seconds until another can take over from a holder that went silent, and so the longest time without a scheduler. It
# survives an election of etcd itself (1 s by default) with one renewal to spare.
LEASE_TTL: Final = 3


class LockedError(Exception):
    """Another process of the role uses the run folder."""


@contextmanager
def candidate(run_dir: Path, role: str) -> Generator[str, None, None]:
    """This candidate's name, which the next process of `role` in `run_dir` takes over; held by a lock."""
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = run_dir / f"{role}.candidate"
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(
                f"another {role} process holds {path}: stop it, or give this one another --run-dir"
            ) from None
        name = file.read().strip()
        if not name:
            name = f"{os.uname().nodename}-{uuid4()}"
            file.write(name)
            file.flush()
        yield name


@asynccontextmanager
async def elected(etcd: Etcd, role: str, name: str, *, ttl: int = LEASE_TTL) -> AsyncGenerator[Fence, None]:
    """Waits for its turn; inside, this process is the one that acts. Cancels the inside when that is lost.

    What it raises then is a group with `LeaseLost`. Leaving resigns, so that the next one need not wait.
    """
    key = f"{KEY_PREFIX}{role}"
    while True:
        await _wait_vacant(etcd, key.encode(), name)
        lease = await etcd.grant(ttl)
        try:
            taken = await etcd.txn([absent(key.encode())], [put(key.encode(), name.encode(), lease.id)])
            if not taken.succeeded:
                continue
            fence = Fence(key, taken.header.revision)
            log.info("elected", election=role, candidate=name, revision=fence.create_revision)
            async with asyncio.TaskGroup() as owner:
                keeping = owner.create_task(lease.keep(), name="election lease")
                yield fence
                keeping.cancel()
            return
        finally:
            await lease.revoke()


async def _wait_vacant(etcd: Etcd, key: bytes, name: str) -> None:
    """Returns when nobody stands elected; ends the term of our own dead predecessor."""
    while True:
        found = await etcd.range(key)
        if not found.items:
            return
        holder = found.items[0]
        if holder.value == name.encode():
            log.info("ending the term of a predecessor that died", candidate=name)
            await etcd.txn([created_at(key, holder.create_revision)], [delete(key)])
            continue
        log.info("waiting for an election", holder=holder.value.decode(), key=key.decode())
        try:
            async with aclosing(etcd.watch(key, start_revision=found.revision + 1)) as batches:
                async for batch in batches:
                    if any(event.type == event.DELETE for event in batch.events):
                        break
        except Compacted:
            # It waited for so long that its position is history: look again.
            continue
