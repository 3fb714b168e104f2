"""What controllers ask of a pod: is it still counted, ready, available. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from controlplane import conditions
from controlplane.clock import from_timestamp
from podwire import v1

_FINISHED: Final = ("Succeeded", "Failed")


def is_finished(pod: v1.Pod) -> bool:
    return pod.status.phase in _FINISHED


def is_terminating(pod: v1.Pod) -> bool:
    return pod.metadata.HasField("deletion_timestamp")


def is_active(pod: v1.Pod) -> bool:
    """Whether it counts as one of its replica set's: it runs, or will."""
    return not is_finished(pod) and not is_terminating(pod)


def is_ready(pod: v1.Pod) -> bool:
    return conditions.is_true(pod.status.conditions, "Ready")


def available_at(pod: v1.Pod, min_ready_seconds: int) -> datetime | None:
    """When the pod has been, or will have been, ready for `min_ready_seconds`; None while it is not ready."""
    ready = conditions.find(pod.status.conditions, "Ready")
    if ready is None or ready.status != "True":
        return None
    return from_timestamp(ready.last_transition_time) + timedelta(seconds=min_ready_seconds)
