"""Statuses on their way to the API: the last one of each pod, sent in batches, sent again until it is stored.

A batch is whatever has gathered while the one before it was on its way, so load makes batches larger and not latency
longer. What was sent and not acknowledged when a session ends is sent again over the next. A status in the API that is
not what was stored, because somebody else wrote one, is put right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from nodeagent.clock import Clock
from nodeagent.pods.status import own_part
from podwire import v1
from podwire.errors import NotFound
from podwire.keys import key_of

log = structlog.get_logger(__name__)

# Bytes; far below what our servers take (16 MiB), so that heartbeats are not held up by a batch.
_BATCH_BYTES: Final = 1 << 20
# Seconds before a status that the server could not store is sent again.
_RETRY_AFTER: Final = 1.0
# Seconds before a status in the API that differs counts as foreign: our own last one may not have come back yet.
_FOREIGN_AFTER: Final = 1.0


class StatusReporter:
    """`stored` gives the pod as the API has it now, by key; `changed` is set when there is something to send."""

    def __init__(self, clock: Clock, stored: Callable[[str], v1.Pod | None]) -> None:
        self._clock = clock
        self._stored = stored
        self._latest: dict[str, v1.PodStatusUpdate] = {}
        self._pending: dict[str, None] = {}
        self._in_flight: dict[int, dict[str, v1.PodStatusUpdate]] = {}
        self._sequence = 0
        self.changed = asyncio.Event()

    def report(self, pod: v1.Pod, status: v1.PodStatus) -> None:
        """This is the pod's status now; it goes out with the next batch."""
        self.assume(pod, status)
        self._send(pod.metadata.uid)

    def assume(self, pod: v1.Pod, status: v1.PodStatus) -> None:
        """This is the pod's status, as an agent before this one sent it. It goes out if the API has another."""
        meta = pod.metadata
        self._latest[meta.uid] = v1.PodStatusUpdate(
            namespace=meta.namespace, name=meta.name, uid=meta.uid, status=status
        )

    def seen(self, _key: str, old: v1.Pod | None, new: v1.Pod | None) -> None:
        """The API's pods changed: an informer's handler."""
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
            self._latest.pop(old.metadata.uid, None)
            self._pending.pop(old.metadata.uid, None)
        if new is not None and self._is_foreign(new):
            key, uid = key_of(new), new.metadata.uid
            self._clock.call_later(_FOREIGN_AFTER, lambda: self._correct(key, uid))

    def next_batch(self) -> v1.StatusBatch | None:
        """What is to be sent now; None if nothing is."""
        self.changed.clear()
        if not self._pending:
            return None
        self._sequence += 1
        batch = v1.StatusBatch(sequence=self._sequence)
        size = 0
        taken: dict[str, v1.PodStatusUpdate] = {}
        for uid in list(self._pending):
            if size >= _BATCH_BYTES:
                self.changed.set()
                break
            del self._pending[uid]
            update = self._latest[uid]
            taken[uid] = update
            batch.updates.append(update)
            size += update.ByteSize()
        self._in_flight[self._sequence] = taken
        return batch

    def acknowledged(self, ack: v1.StatusAck) -> None:
        sent = self._in_flight.pop(ack.sequence, {})
        for result in ack.results:
            if not result.reason or result.uid not in sent:
                continue
            if result.reason == NotFound.reason:
                self._latest.pop(result.uid, None)
                continue
            log.warning("status not stored", pod=result.uid, reason=result.reason, error=result.message)
            if self._latest.get(result.uid) is sent[result.uid]:
                uid = result.uid
                self._clock.call_later(_RETRY_AFTER, lambda uid=uid: self._send(uid))  # type: ignore[misc]

    def session_ended(self) -> None:
        """Nobody knows what became of what was not acknowledged."""
        for sent in self._in_flight.values():
            for uid in sent:
                self._send(uid)
        self._in_flight.clear()

    def _send(self, uid: str) -> None:
        if uid in self._latest:
            self._pending[uid] = None
            self.changed.set()

    def _is_foreign(self, pod: v1.Pod) -> bool:
        uid = pod.metadata.uid
        latest = self._latest.get(uid)
        if latest is None or uid in self._pending or any(uid in sent for sent in self._in_flight.values()):
            return False
        return latest.status != own_part(pod.status)

    def _correct(self, key: str, uid: str) -> None:
        pod = self._stored(key)
        if pod is not None and pod.metadata.uid == uid and self._is_foreign(pod):
            log.info("status in the API is not ours, sending it again", pod=key)
            self._send(uid)
