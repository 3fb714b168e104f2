"""Who asks, for the limits: every connection belongs to a user, and a user is one of the system or an ordinary one.

| connection | user | of the system |
| --- | --- | --- |
| TLS, organization `podwire:nodes` | `node <common name>` | yes |
| TLS, organization `podwire:controlplane`, with a fence | the role that the fence's election is for | yes |
| TLS, any other | `<common name>` | no |
| unix socket, with a fence | the role | yes |
| unix socket | `local administrator` | no |

A fence (the election that a leader's client names with every call) is believed where lying gains nothing: on the
socket, which only its owner can open, and from the control plane's own certificates. It decides about limits only;
whether the election is really held is compared with every write.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from controlplane.election import KEY_PREFIX
from controlplane.http2 import Context
from controlplane.services.callers import FENCE_METADATA
from controlplane.services.in_flight import Gate, Outgoing, Share
from controlplane.settings import LoadLimits

NODES: Final = "podwire:nodes"
CONTROL_PLANE: Final = "podwire:controlplane"
LOCAL_ADMINISTRATOR: Final = "local administrator"

# Users that are remembered; beyond, those that have nothing under way are forgotten.
_MOST_KNOWN: Final = 10_000


class User:
    """One who asks, with a share of everything that is limited."""

    __slots__ = ("answers", "name", "outgoing", "requests", "streams")

    def __init__(self, name: str, users: Users, *, system: bool) -> None:
        self.name = name
        self.requests = Share(users.requests, name, system=system)
        self.streams = Share(users.streams, name, system=system)
        self.answers = Share(users.answers, name, system=system)
        self.outgoing = users.outgoing

    @property
    def idle(self) -> bool:
        return self.requests.idle and self.streams.idle and self.answers.idle


class Users:
    def __init__(self, limits: LoadLimits, clock: Callable[[], float]) -> None:
        self.requests = Gate("requests in flight", limits.requests, clock)
        self.streams = Gate("open streams", limits.streams, clock)
        self.answers = Gate("bytes of lists on their way", limits.answer_bytes, clock)
        self.outgoing = Outgoing(limits.watch_bytes)
        # Calls that were let in, by method.
        self.calls: Counter[str] = Counter()
        self._users: dict[tuple[str, bool], User] = {}

    @property
    def gates(self) -> tuple[Gate, ...]:
        return self.requests, self.streams, self.answers

    def of(self, context: Context) -> User:
        """The user whose call this is."""
        identity = context.connection.identity
        if identity is None:
            return self._candidate(context) or self._user(LOCAL_ADMINISTRATOR, system=False)
        if NODES in identity.organizations:
            return self._user(f"node {identity.common_name}", system=True)
        if CONTROL_PLANE in identity.organizations and (candidate := self._candidate(context)):
            return candidate
        return self._user(identity.common_name, system=False)

    def _candidate(self, context: Context) -> User | None:
        for key, value in context.invocation_metadata():
            if key == FENCE_METADATA:
                election = value if isinstance(value, str) else value.decode(errors="replace")
                role = election.partition(KEY_PREFIX)[2]
                return self._user(role, system=True) if role else None
        return None

    def _user(self, name: str, *, system: bool) -> User:
        user = self._users.get((name, system))
        if user is None:
            if len(self._users) >= _MOST_KNOWN:
                self._users = {key: user for key, user in self._users.items() if not user.idle}
            user = self._users[name, system] = User(name, self, system=system)
        return user
