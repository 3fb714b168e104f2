"""What the runner remembers of each attachment: the list it was made with and the result, a file each.

An attachment is written down before the first plugin runs and forgotten after the last one has undone it, so that a
runner that was killed in between finds what to undo, with the list that made it, whatever the node's list is today.

The executable that a killed runner had started goes on. Each one holds the writing end of its attachment's pipe, so
that the next runner knows when the last of them has ended, and only then undoes what they did.
"""

from __future__ import annotations

import json
import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cni.conflist import ConfList, parse
from cni.errors import IO_FAILURE, CniError

_SEPARATOR = "@"
_SUFFIX = ".json"
_UNFINISHED = ".new"
_RUNNING = ".running"


@dataclass(frozen=True, slots=True)
class Record:
    """One attachment. `result` is None until the last plugin's ADD is done."""

    container_id: str
    interface: str
    namespace: Path | None
    conflist: ConfList | None
    arguments: dict[str, str]
    capabilities: dict[str, Any]
    result: dict[str, Any] | None = None


class Attachments:
    """The records in one folder. The separator in file names is one that no container id can have."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, record: Record) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(record.container_id, record.interface)
        unfinished = path.with_suffix(_UNFINISHED)
        unfinished.write_text(
            json.dumps(
                {
                    "namespace": str(record.namespace) if record.namespace else None,
                    "conflist": record.conflist.to_json() if record.conflist else None,
                    "arguments": record.arguments,
                    "capabilities": record.capabilities,
                    "result": record.result,
                }
            )
        )
        unfinished.replace(path)

    def read(self, container_id: str, interface: str) -> Record | None:
        """The record, None where there is none. One that a power cut has emptied still says that there was one."""
        try:
            text = self._path(container_id, interface).read_text()
        except FileNotFoundError:
            return None
        try:
            kept = json.loads(text)
            conflist = parse(kept["conflist"], "the recorded list")
        except (ValueError, KeyError, CniError):
            return Record(container_id, interface, None, None, {}, {})
        return Record(
            container_id,
            interface,
            Path(kept["namespace"]) if kept["namespace"] else None,
            conflist,
            kept["arguments"],
            kept["capabilities"],
            kept["result"],
        )

    def forget(self, container_id: str, interface: str) -> None:
        path = self._path(container_id, interface)
        path.with_suffix(_RUNNING).unlink(missing_ok=True)
        path.with_suffix(_UNFINISHED).unlink(missing_ok=True)
        path.unlink(missing_ok=True)

    @contextmanager
    def running(self, container_id: str, interface: str) -> Iterator[int]:
        """A descriptor for an executable to inherit: while it is open anywhere, `wait_for_executables` waits."""
        pipe = self._path(container_id, interface).with_suffix(_RUNNING)
        self._folder.mkdir(parents=True, exist_ok=True)
        if not pipe.exists():
            os.mkfifo(pipe)
        descriptor = os.open(pipe, os.O_RDWR | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def wait_for_executables(self, container_id: str, interface: str, seconds: float) -> None:
        """Returns when nothing that an earlier runner started for it runs. Raises CniError after that many seconds."""
        pipe = self._path(container_id, interface).with_suffix(_RUNNING)
        try:
            descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            os.read(descriptor, 1)  # nothing is ever written: this is the end of the pipe
        except BlockingIOError:
            # Somebody holds the other end; the kernel says so when the last one lets go.
            poll = select.poll()
            poll.register(descriptor, 0)
            if not poll.poll(seconds * 1000):
                raise CniError(
                    IO_FAILURE, f"a CNI plugin that an earlier agent started for {container_id} still runs"
                ) from None
        finally:
            os.close(descriptor)

    def known(self) -> Iterator[tuple[str, str]]:
        """Container id and interface of every attachment, also of one whose first writing did not end."""
        try:
            paths = list(self._folder.iterdir())
        except FileNotFoundError:
            return
        yield from {_key(path) for path in paths}

    def _path(self, container_id: str, interface: str) -> Path:
        return self._folder / f"{container_id}{_SEPARATOR}{interface}{_SUFFIX}"


def _key(path: Path) -> tuple[str, str]:
    container_id, _, interface = path.name.rpartition(".")[0].partition(_SEPARATOR)
    return container_id, interface
