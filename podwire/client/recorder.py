"""Events: what happened to an object, told once and counted where it repeats.

Telling never blocks: `event` notes the occurrence, and one task, `run`, writes. Equal occurrences (object, type,
reason, message) are one Event object with a count, named after a hash of all that, so that a recorder that starts anew
goes on counting where its predecessor stopped. Each object has a bucket of writes; when it is empty, occurrences are
only counted until there is one again, so that nothing is lost but freshness and a failing probe cannot flood the store.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NamedTuple, NoReturn, cast

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from podwire import errors, v1
from podwire.backoff import Backoff
from podwire.client.kind_client import KindClient
from podwire.keys import Object
from podwire.kinds import BY_MESSAGE
from podwire.logs import Logger

log = Logger(__name__)

NORMAL: Final = "Normal"
WARNING: Final = "Warning"

# Writes an object may cause at once, and the seconds until it may cause one more. Kubernetes has 25 and 300 s, and
# drops what exceeds it; here it is counted, so the figure only says how stale a count may be.
_BURST: Final = 25
_REFILL_SECONDS: Final = 30.0
# Different events that are remembered; the longest unheard of are forgotten first.
_REMEMBERED: Final = 4096
# Kubernetes' limit for an event's message; names of objects end at 253 characters.
_MESSAGE_LIMIT: Final = 1024
_NAME_STEM: Final = 253 - len(".0123456789abcdef")
# A write that meets a change by another hand reads and tries again, so often.
_ATTEMPTS: Final = 4
# Events of objects in no namespace live here, as in Kubernetes.
_DEFAULT_NAMESPACE: Final = "default"


class EventKey(NamedTuple):
    """What makes two occurrences the same event."""

    kind: str
    namespace: str
    name: str
    uid: str
    field_path: str
    type: str
    reason: str
    message: str

    @property
    def object_id(self) -> str:
        return self.uid or f"{self.kind}/{self.namespace}/{self.name}"

    @property
    def event_name(self) -> str:
        digest = hashlib.sha256("\0".join(self).encode()).hexdigest()
        return f"{self.name[:_NAME_STEM]}.{digest[:16]}"


@dataclass(slots=True)
class Entry:
    """One event: occurrences that are not written yet, and what the store has."""

    key: EventKey
    involved: v1.ObjectReference
    first: datetime
    last: datetime
    unwritten: int = 0
    # As this recorder last wrote or read it.
    stored: v1.Event | None = None


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float

    def fill(self, now: float) -> None:
        self.tokens = min(float(_BURST), self.tokens + (now - self.filled_at) / _REFILL_SECONDS)
        self.filled_at = now


@dataclass(slots=True)
class Ledger:
    """The decisions, without I/O: what happened, and which event may be written when. `now` is monotonic seconds."""

    entries: OrderedDict[EventKey, Entry] = field(default_factory=OrderedDict)
    _buckets: OrderedDict[str, _Bucket] = field(default_factory=OrderedDict)
    # Entries with occurrences to write, in the order in which they came.
    _unwritten: OrderedDict[EventKey, None] = field(default_factory=OrderedDict)

    def note(self, key: EventKey, involved: v1.ObjectReference, at: datetime) -> None:
        entry = self.entries.get(key)
        if entry is None:
            entry = self.entries[key] = Entry(key, involved, first=at, last=at)
        entry.last = at
        entry.unwritten += 1
        self.entries.move_to_end(key)
        self._unwritten[key] = None
        while len(self.entries) > _REMEMBERED:
            forgotten, _ = self.entries.popitem(last=False)
            self._unwritten.pop(forgotten, None)

    def take(self, now: float) -> Entry | None:
        """The next entry to write, at the cost of a token of its object; None: not now."""
        for key in self._unwritten:
            bucket = self._bucket(key.object_id, now)
            if bucket.tokens >= 1:
                bucket.tokens -= 1
                del self._unwritten[key]
                return self.entries[key]
        return None

    def give_back(self, entry: Entry) -> None:
        """It could not be written: later."""
        if entry.key in self.entries:
            self._unwritten[entry.key] = None

    def wait(self, now: float) -> float | None:
        """Seconds until `take` has something; None: only a new occurrence can make it so."""
        fullest = max((self._bucket(key.object_id, now).tokens for key in self._unwritten), default=None)
        return None if fullest is None else max(0.0, 1 - fullest) * _REFILL_SECONDS

    def _bucket(self, of: str, now: float) -> _Bucket:
        bucket = self._buckets.get(of)
        if bucket is None:
            bucket = self._buckets[of] = _Bucket(float(_BURST), now)
            while len(self._buckets) > _REMEMBERED:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(of)
        bucket.fill(now)
        return bucket


class EventRecorder:
    """`recorder.event(pod, WARNING, "BackOff", "…")` from anywhere in the loop; `run` as a task with an owner."""

    def __init__(
        self,
        events: KindClient[v1.Event],
        *,
        component: str,
        host: str = "",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`component` and `host` say who tells, as in `podwire-agent` on `node1`."""
        self._events = events
        self._component = component
        self._host = host
        self._now = now
        self._ledger = Ledger()
        self._told = asyncio.Event()

    def event(self, obj: Object, event_type: str, reason: str, message: str, *, field_path: str = "") -> None:
        """Tells that something happened to `obj`; `field_path` names a part, as in `spec.containers{web}`."""
        kind = BY_MESSAGE[cast(type[Message], type(obj))]
        meta = obj.metadata
        involved = v1.ObjectReference(
            kind=kind.name,
            api_version=kind.api_version,
            namespace=meta.namespace,
            name=meta.name,
            uid=meta.uid,
            resource_version=meta.resource_version,
            field_path=field_path,
        )
        told = message if len(message) <= _MESSAGE_LIMIT else f"{message[: _MESSAGE_LIMIT - 1]}…"
        key = EventKey(kind.name, meta.namespace, meta.name, meta.uid, field_path, event_type, reason, told)
        self._ledger.note(key, involved, self._now())
        self._told.set()

    async def run(self) -> NoReturn:
        """Writes until cancelled. Raises errors.Fenced where the client's election is lost."""
        clock = asyncio.get_running_loop().time
        backoff = Backoff(0.1, 5.0)
        while True:
            self._told.clear()
            delay = self._ledger.wait(clock())
            if delay != 0:
                await self._sleep(delay)
                continue
            entry = self._ledger.take(clock())
            if entry is None:
                continue
            try:
                await self._write(entry)
                backoff.reset()
            except errors.Fenced:
                raise
            except errors.PodwireError as error:
                if error.retryable:
                    self._ledger.give_back(entry)
                    await asyncio.sleep(backoff.next())
                else:
                    # Its object's namespace is going, or the event is not valid: it matters to nobody any more.
                    log.info("event not written", object=entry.key.object_id, reason=entry.key.reason, error=str(error))

    async def _sleep(self, delay: float | None) -> None:
        """Until the time has passed or something new was told."""
        try:
            async with asyncio.timeout(delay):
                await self._told.wait()
        except TimeoutError:
            pass  # The time has passed.

    async def _write(self, entry: Entry) -> None:
        for _ in range(_ATTEMPTS):
            written = entry.unwritten
            try:
                if entry.stored is None:
                    entry.stored = await self._events.create(self._new_event(entry))
                else:
                    entry.stored = await self._events.update(_counted(entry.stored, entry))
            except (errors.AlreadyExists, errors.Conflict):
                # A predecessor of this recorder told it, or a write whose answer was lost: count on from there.
                entry.stored = await self._find(entry)
            except errors.NotFound:
                if entry.stored is None:
                    raise
                # It has expired: this is a new one.
                entry.stored, entry.first = None, entry.last
            else:
                entry.unwritten -= written
                return

    async def _find(self, entry: Entry) -> v1.Event | None:
        try:
            return await self._events.get(entry.key.event_name, namespace=_namespace(entry))
        except errors.NotFound:
            return None

    def _new_event(self, entry: Entry) -> v1.Event:
        return v1.Event(
            metadata=v1.ObjectMeta(name=entry.key.event_name, namespace=_namespace(entry)),
            involved_object=entry.involved,
            type=entry.key.type,
            reason=entry.key.reason,
            message=entry.key.message,
            source=v1.EventSource(component=self._component, host=self._host),
            first_timestamp=_timestamp(entry.first),
            last_timestamp=_timestamp(entry.last),
            count=entry.unwritten,
            reporting_component=self._component,
            reporting_instance=self._host,
        )


def _namespace(entry: Entry) -> str:
    return entry.key.namespace or _DEFAULT_NAMESPACE


def _counted(stored: v1.Event, entry: Entry) -> v1.Event:
    event = v1.Event()
    event.CopyFrom(stored)
    event.count += entry.unwritten
    event.last_timestamp.CopyFrom(_timestamp(entry.last))
    return event


def _timestamp(moment: datetime) -> Timestamp:
    return Timestamp(seconds=int(moment.timestamp()))
