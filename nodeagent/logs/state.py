"""What the pump attends, kept as one small file a container, so that a pump that is killed and started again knows."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class BadRequest(Exception):
    """A request that cannot be carried out as it is; its text is the answer."""


def check_id(value: object) -> str:
    """`value`, if it can be the name of a container, and so of a file."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise BadRequest("id must be 1 to 128 letters, digits, '.', '_' or '-', and begin with a letter or digit")
    return value


class Attachment(NamedTuple):
    """One container: the FIFOs that its output comes through, and its log file. A terminal has no stderr: empty."""

    id: str
    stdout: str
    stderr: str
    log: str

    @classmethod
    def parse(cls, tree: dict[str, Any]) -> Attachment:
        values = {name: tree.get(name, "") for name in cls._fields}
        for name, value in values.items():
            if not isinstance(value, str):
                raise BadRequest(f"{name} must be text")
        check_id(values["id"])
        for name in ("stdout", "log"):
            if not values[name]:
                raise BadRequest(f"{name} is missing")
        for name in ("stdout", "stderr", "log"):
            if values[name] and not os.path.isabs(values[name]):  # noqa: PTH117, the value stays text
                raise BadRequest(f"{name} must be an absolute path")
        return cls(**values)


class StateDir:
    """The files. The process that holds the lock is the only one that reads FIFOs listed here."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.mkdir(parents=True, exist_ok=True)

    def save(self, attachment: Attachment) -> None:
        """Atomic under SIGKILL. Not synchronised to disk: FIFOs do not outlive the machine either."""
        unfinished = self._path / f".{attachment.id}.new"
        unfinished.write_text(json.dumps(attachment._asdict()))
        unfinished.rename(self._path / f"{attachment.id}.json")

    def forget(self, container: str) -> None:
        (self._path / f"{container}.json").unlink(missing_ok=True)

    def load(self) -> Iterator[Attachment]:
        for file in sorted(self._path.glob("*.json")):
            yield Attachment.parse(json.loads(file.read_text()))
