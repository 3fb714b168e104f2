"""`podwire.v1.Cluster`: the control plane about itself, for the time when something is wrong with it.

So everything is asked for at once, within a time, and what does not answer is said to; nothing is waited for twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Final, TypeVar

import grpc

from controlplane.election import KEY_PREFIX
from controlplane.http2 import Context
from controlplane.services.verbs import unary
from controlplane.store import keys
from controlplane.store import operations as op
from controlplane.store.api import etcd_pb2 as pb
from controlplane.store.cache import Cache
from controlplane.store.etcd import Etcd
from controlplane.store.maintenance import MemberState
from podwire import errors, v1

T = TypeVar("T")

SERVICE: Final = "podwire.v1.Cluster"
# Seconds for each question, so that an answer comes within two whatever is down.
_TIMEOUT: Final = 1.5
_ELECTIONS: Final = KEY_PREFIX.encode()
# Also where nobody holds them.
_ROLES: Final = ("scheduler", "controllers")


class ClusterService:
    def __init__(self, etcd: Etcd, cache: Cache) -> None:
        self._etcd = etcd
        self._cache = cache

    def handler(self) -> grpc.GenericRpcHandler:
        status = unary(f"{SERVICE}/Status", v1.ClusterStatusRequest, self._status)
        return grpc.method_handlers_generic_handler(SERVICE, {"Status": status})

    async def _status(self, request: v1.ClusterStatusRequest, context: Context) -> bytes:
        etcd = self._etcd
        members, alarms, elections, compacted = await asyncio.gather(
            etcd.maintenance.members(timeout=_TIMEOUT),
            _known(etcd.maintenance.alarms(timeout=_TIMEOUT)),
            _known(etcd.range(_ELECTIONS, op.prefix_end(_ELECTIONS), timeout=_TIMEOUT)),
            _known(etcd.compacted_revision(keys.EPOCH, timeout=_TIMEOUT)),
        )
        answer = v1.ClusterStatus(
            epoch=self._cache.epoch,
            # Without etcd's word, what this replica has seen of it.
            revision=max((m.status.header.revision for m in members if m.status is not None), default=0)
            or self._cache.revision,
            compacted_revision=compacted or 0,
            members=[_member(member) for member in members],
            alarms=[_alarm(alarm, members) for alarm in alarms or ()],
        )
        if elections is None or alarms is None:
            answer.error = _trouble(members)
        holders = {kv.key.removeprefix(_ELECTIONS).decode(): kv for kv in (elections.items if elections else ())}
        for role in dict.fromkeys((*_ROLES, *holders)):
            leader = answer.leaders.add(role=role)
            if role in holders:
                leader.holder = holders[role].value.decode(errors="replace")
                leader.create_revision = holders[role].create_revision
        return answer.SerializeToString()


async def _known(question: Awaitable[T]) -> T | None:
    """The answer, or None where there is none."""
    try:
        return await question
    except errors.PodwireError:
        return None


def _trouble(members: Sequence[MemberState]) -> str:
    """Why a read that needs most members was not answered."""
    up = [member for member in members if member.status is not None]
    if not up:
        return "no member of etcd answers: nothing can be read or written"
    if not any(member.leads for member in up):
        voters = sum(not member.learner for member in members)
        return (
            f"etcd has no leader: {len(up)} of {len(members)} members answer and it takes {voters // 2 + 1} that reach "
            "each other; nothing can be read or written"
        )
    return "etcd does not answer reads in time, although it has a leader: its members or their disks are too slow"


def _member(state: MemberState) -> v1.EtcdMember:
    member = v1.EtcdMember(
        name=state.name,
        id=f"{state.id:x}" if state.id else "",
        client_urls=state.client_urls or [state.address],
        learner=state.learner,
        error=state.error,
    )
    if state.status is not None:
        member.version = state.status.version
        member.db_size = state.status.dbSize
        member.db_size_in_use = state.status.dbSizeInUse
        member.leader = state.leads
        member.raft_term = state.status.raftTerm
        member.raft_index = state.status.raftIndex
    return member


def _alarm(alarm: pb.AlarmMember, members: Sequence[MemberState]) -> v1.EtcdAlarm:
    name = next((member.name for member in members if member.id == alarm.memberID), "")
    return v1.EtcdAlarm(type=pb.AlarmType.Name(alarm.alarm), member_id=f"{alarm.memberID:x}", member_name=name)
