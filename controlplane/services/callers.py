"""Who asks, as far as a write needs to know: the election that a leader acts under, and the manager of fields."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from podwire import errors

FENCE_METADATA: Final = "podwire-fence"
# The field manager of a writer that neither names itself nor acts under an election.
UNKNOWN_MANAGER: Final = "unknown"


@dataclass(frozen=True, slots=True)
class Fence:
    """The key of a candidacy, and the revision that made it: the write happens only while it is held."""

    key: bytes
    create_revision: int


def fence_of(metadata: Iterable[tuple[str, str | bytes]] | None) -> Fence | None:
    """The fence that a request's metadata names, `<create revision>:<key>`."""
    for name, value in metadata or ():
        if name == FENCE_METADATA:
            revision, separator, key = (value if isinstance(value, str) else value.decode()).partition(":")
            # etcd's revisions are 64 bits long.
            if not (separator and key and revision.isdecimal() and len(revision) < 19):
                raise errors.Invalid(f"{FENCE_METADATA} must be <create revision>:<key>, not {value!r}")
            return Fence(key.encode(), int(revision))
    return None


def manager_of(named: str, fence: Fence | None) -> str:
    """Whose the fields are that a write changes: as the request says; a leader's by its role, as podwire-scheduler."""
    if named or fence is None:
        return named or UNKNOWN_MANAGER
    return f"podwire-{fence.key.decode().rpartition('/')[2]}"
