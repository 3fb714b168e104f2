"""The pump's socket: requests come and answers go as one JSON object a line, and no client can stop the others."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

_LONGEST_REQUEST: Final = 1 << 16


def listen(path: Path) -> socket.socket:
    """A listening socket at `path`, for this user only. What a killed process left there is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    umask = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(umask)
    listener.listen(128)
    return listener


class Client:
    """One connection: what has come of its next request, and what it has not taken yet of its answers."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._incoming = b""
        self._outgoing = b""

    @property
    def descriptor(self) -> int:
        return self._connection.fileno()

    @property
    def has_unsent(self) -> bool:
        return bool(self._outgoing)

    def requests(self) -> Iterator[dict[str, Any] | None]:
        """The complete requests that have come; None for a line that is not a JSON object. Raises Gone at the end."""
        try:
            received = self._connection.recv(_LONGEST_REQUEST)
        except BlockingIOError:
            return
        except OSError as error:
            raise Gone from error
        *lines, self._incoming = (self._incoming + received).split(b"\n")
        for line in lines:
            try:
                tree = json.loads(line)
            except ValueError:
                tree = None
            yield tree if isinstance(tree, dict) else None
        if not received or len(self._incoming) > _LONGEST_REQUEST:
            raise Gone

    def answer(self, tree: dict[str, Any]) -> None:
        self._outgoing += json.dumps(tree).encode() + b"\n"
        self.send()

    def send(self) -> None:
        """Sends what the client takes now. Raises Gone."""
        try:
            while self._outgoing:
                self._outgoing = self._outgoing[self._connection.send(self._outgoing) :]
        except BlockingIOError:
            return
        except OSError as error:
            raise Gone from error

    def close(self) -> None:
        self._connection.close()


class Gone(Exception):
    """The client has closed its end, or does not speak our protocol."""
