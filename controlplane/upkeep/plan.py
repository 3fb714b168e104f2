"""What to do, decided from what the members say: without I/O, as tables of tests can check."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from controlplane.store.maintenance import MemberState

_MIB: Final = 1024 * 1024
# A member answers nothing while it is defragmented, so that it has to be worth it: the file must be nearly twice what
# is in it, and the difference must matter to a disk. Later writes use free pages again, so that a small rest does no
# harm. The figures are those of OpenShift's operator for etcd, which has run on many clusters for years.
_WORTH_BYTES: Final = 100 * _MIB
_WORTH_SHARE: Final = 0.45
# While objects are deleted in a full store, every attempt may be too early: all members are defragmented for it.
_RELIEF_SECONDS: Final = 30.0
# A full store in which nothing was given up gets another chance this often: its quota may have been raised, or somebody
# has made room and died before the alarm was cleared.
_LAST_RESORT_SECONDS: Final = 300.0


def worth_it(member: MemberState) -> bool:
    """Whether to defragment it in ordinary times, when the store is not full."""
    return member.free >= max(_WORTH_BYTES, _WORTH_SHARE * _size(member))


def turns(members: Sequence[MemberState], wanted: Callable[[MemberState], bool]) -> list[MemberState]:
    """Those that are `wanted`, in the order in which to defragment them: etcd's leader last.

    None where a member is missing or the cluster has no leader: the others are needed for every write.
    """
    if not all(map(answers, members)) or not any(member.leads for member in members):
        return []
    return sorted(filter(wanted, members), key=lambda member: (member.leads, member.id))


def answers(member: MemberState) -> bool:
    return member.status is not None


def relief_due(now: float, *, tried_at: float | None, freed_since: bool) -> bool:
    """Whether to try to make room in a full store; `freed_since`: something was given up since the last attempt.

    What the members say of free bytes is no help here: etcd counts pages that a compaction freed two commits later, and
    in a store that takes no writes there are none.
    """
    if tried_at is None:
        return True
    return now - tried_at >= (_RELIEF_SECONDS if freed_since else _LAST_RESORT_SECONDS)


def _size(member: MemberState) -> int:
    return member.status.dbSize if member.status is not None else 0
