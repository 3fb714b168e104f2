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

What a connection shows is read once. gRPC names a connection by its address, which may come back for another client:
the certificate's names are compared with every call, as they cost a tenth of reading the certificate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import grpc.aio

from controlplane.election import KEY_PREFIX
from controlplane.services.callers import FENCE_METADATA
from controlplane.services.in_flight import Gate, Outgoing, Share
from controlplane.settings import LoadLimits

NODES: Final = "podwire:nodes"
CONTROL_PLANE: Final = "podwire:controlplane"
LOCAL_ADMINISTRATOR: Final = "local administrator"

# Connections and users that are remembered; beyond, those that have nothing under way are forgotten.
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
        self._connections: dict[tuple[object, ...], tuple[str, bool, bool]] = {}

    @property
    def gates(self) -> tuple[Gate, ...]:
        return self.requests, self.streams, self.answers

    def of(self, context: grpc.aio.ServicerContext[Any, Any]) -> User:
        """The user whose call this is."""
        peer = context.peer()
        if peer.startswith("unix:"):
            return self._candidate(context) or self._user(LOCAL_ADMINISTRATOR, system=False)
        connection = (peer, *(context.peer_identities() or ()))
        known = self._connections.get(connection)
        if known is None:
            if len(self._connections) >= _MOST_KNOWN:
                self._connections.clear()
            known = self._connections[connection] = _read(context.auth_context())
        name, system, may_be_candidate = known
        if may_be_candidate and (candidate := self._candidate(context)):
            return candidate
        return self._user(name, system=system)

    def _candidate(self, context: grpc.aio.ServicerContext[Any, Any]) -> User | None:
        for key, value in context.invocation_metadata() or ():
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


def _read(certificate: Any) -> tuple[str, bool, bool]:
    """The user's name, whether it is one of the system's, and whether it may name an election."""
    subject = _text(certificate.get("x509_subject"))
    common_name = _text(certificate.get("x509_common_name")) or subject
    organizations = {part[2:] for part in subject.split(",") if part.startswith("O=")}
    if NODES in organizations:
        return f"node {common_name}", True, False
    return common_name, False, CONTROL_PLANE in organizations


def _text(values: Any) -> str:
    return next(iter(values)).decode(errors="replace") if values else ""
