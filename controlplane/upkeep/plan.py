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
# In a full store anything helps that writes will notice.
_RELIEF_SHARE: Final = 0.1


def worth_it(member: MemberState) -> bool:
    """Whether to defragment it in ordinary times."""
    return member.free >= max(_WORTH_BYTES, _WORTH_SHARE * _size(member))


def brings_relief(member: MemberState) -> bool:
    """Whether defragmenting it makes room in a store that has reached its quota."""
    return member.free > 0 and member.free >= _RELIEF_SHARE * _size(member)


def turns(members: Sequence[MemberState], wanted: Callable[[MemberState], bool]) -> list[MemberState]:
    """Those that are `wanted`, in the order in which to defragment them: etcd's leader last.

    None where a member is missing or the cluster has no leader: the others are needed for every write.
    """
    if not all(map(answers, members)) or not any(member.leads for member in members):
        return []
    return sorted(filter(wanted, members), key=lambda member: (member.leads, member.id))


def answers(member: MemberState) -> bool:
    return member.status is not None


def _size(member: MemberState) -> int:
    return member.status.dbSize if member.status is not None else 0
