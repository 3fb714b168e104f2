"""Conditions of a status: a list with one entry a type, whose transition time moves only when its status does."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TypeVar

from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

from controlplane.clock import to_timestamp
from podwire import v1

C = TypeVar("C", v1.PodCondition, v1.NodeCondition, v1.DeploymentCondition, v1.ReplicaSetCondition, v1.Condition)


def find(conditions: Iterable[C], kind: str) -> C | None:
    return next((condition for condition in conditions if condition.type == kind), None)


def is_true(conditions: Iterable[C], kind: str) -> bool:
    condition = find(conditions, kind)
    return condition is not None and condition.status == "True"


def put(
    conditions: RepeatedCompositeFieldContainer[C], kind: str, status: str, reason: str, message: str, now: datetime
) -> bool:
    """Sets the condition `kind`, adding it where it is not there; whether anything is different now."""
    condition = find(conditions, kind)
    if condition is None:
        condition = conditions.add(type=kind)
    elif (condition.status, condition.reason, condition.message) == (status, reason, message):
        return False
    if condition.status != status:
        condition.last_transition_time.CopyFrom(to_timestamp(now))
    condition.status, condition.reason, condition.message = status, reason, message
    return True
