"""The time, as a parameter: who decides by it gets it passed in; who writes it makes a Timestamp of it here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

Now = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)


def to_timestamp(moment: datetime) -> Timestamp:
    """Whole seconds, as Kubernetes writes them."""
    return Timestamp(seconds=int(moment.timestamp()))


def from_timestamp(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(tzinfo=UTC)
