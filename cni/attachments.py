"""What the runner remembers of each attachment: the list it was made with and the result, a file each.

An attachment is written down before the first plugin runs and forgotten after the last one has undone it, so that a
runner that was killed in between finds what to undo, with the list that made it, whatever the node's list is today.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cni.conflist import ConfList, parse
from cni.errors import CniError

_SEPARATOR = "@"
_SUFFIX = ".json"
_UNFINISHED = ".new"


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
        path.with_suffix(_UNFINISHED).unlink(missing_ok=True)
        path.unlink(missing_ok=True)

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
