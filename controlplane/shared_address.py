"""A TCP address that several processes of one supervisor listen on, and nobody else.

With SO_REUSEPORT the kernel deals the connections to all who listen. It also lets a second program of the same user
join in silently: so the supervisor first binds the address without, which fails where anybody has it, and holds it from
then on, never listening, for its processes alone to share. They may all be dead at times; the address is still taken.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


class AddressTakenError(Exception):
    """Another program listens there, or the address is none of this machine's."""


@contextmanager
def held(address: str) -> Iterator[None]:
    """Keeps HOST:PORT for processes that bind it with SO_REUSEPORT. Raises AddressTakenError."""
    with ExitStack() as undo:
        for made in bound(address):
            undo.callback(made.close)
            # Only now, and no longer reusable otherwise: who binds from here on must be one of ours.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        yield


def check_free(address: str) -> None:
    """Raises AddressTakenError where nobody could listen on HOST:PORT."""
    for made in bound(address):
        made.close()


def bound(address: str, *, shared: bool = False) -> list[socket.socket]:
    """A socket for each address that the host's name has, `shared` with those of others. Raises AddressTakenError."""
    host, _, port = address.rpartition(":")
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(
            host.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        # An address that stands for all of IPv6 takes IPv4 as well, unless IPv4 has a socket of its own.
        apart = int(any(family == socket.AF_INET for family, *_ in found))
        for family, kind, protocol, _, where in found:
            made = socket.socket(family, kind, protocol)
            sockets.append(made)
            # Connections of an earlier server that the kernel still remembers are in nobody's way; listeners are.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, apart)
            made.bind(where)
    except OSError as error:
        for made in sockets:
            made.close()
        raise AddressTakenError(f"cannot listen on {address}: {error.strerror or error}") from None
    return sockets
