"""An image's users and groups, read from its layers; once for each image.

The layers are looked at through a snapshot, but not mounted: the folders of an overlay are searched from the top, which
is all that two small files need.
"""

from __future__ import annotations

import asyncio
import os
import stat
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from nodeagent.containerd import leases
from nodeagent.containerd.api import types_pb2
from nodeagent.containerd.client import Client
from nodeagent.containerd.records import Records
from nodeagent.containers.users import Accounts

_LARGEST: Final = 1 << 20
"""Bytes read of either file."""
_OPAQUE: Final = "trusted.overlay.opaque"


class AccountsReader:
    """Reads and remembers accounts by chain id."""

    def __init__(self, client: Client, records: Records, agent: str) -> None:
        self._client = client
        self._records = records
        self._agent = agent
        self._known: dict[str, Accounts] = {}

    async def read(self, chain_id: str) -> Accounts:
        """The accounts of the image whose layers end in `chain_id`. Raises ContainerdError."""
        if chain_id not in self._known:
            name = f"podwire-accounts-{uuid.uuid4().hex}"
            async with leases.held(self._client, name, self._agent) as lease:
                mounts = await self._records.view(name, chain_id, lease)
                self._known[chain_id] = await asyncio.to_thread(read_accounts, layers(mounts))
        return self._known[chain_id]


def layers(mounts: Sequence[types_pb2.Mount]) -> list[Path]:
    """The folders that a snapshot's mounts would put together, the topmost first."""
    found = []
    for mount in mounts:
        if mount.type == "overlay":
            options = dict(option.partition("=")[::2] for option in mount.options)
            found += [Path(folder) for folder in options["lowerdir"].split(":")]
        else:
            found.append(Path(mount.source))
    return found


def read_accounts(folders: Sequence[Path]) -> Accounts:
    """The accounts in the first of `folders` that has them."""
    return Accounts.parse(_text(folders, "passwd"), _text(folders, "group"))


def _text(folders: Iterable[Path], name: str) -> str:
    for folder in folders:
        try:
            # No symbolic link is followed: it would lead into the node's own files.
            etc = os.open(folder / "etc", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            mode = os.lstat(name, dir_fd=etc).st_mode
        except OSError:
            if _is_opaque(etc):
                return ""
            continue
        else:
            # A device in its place is overlayfs' mark for "deleted".
            return _content(etc, name) if stat.S_ISREG(mode) else ""
        finally:
            os.close(etc)
    return ""


def _content(folder: int, name: str) -> str:
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    with os.fdopen(file, "rb") as stream:
        return stream.read(_LARGEST).decode(errors="replace")


def _is_opaque(folder: int) -> bool:
    try:
        return os.getxattr(folder, _OPAQUE) == b"y"
    except OSError:
        return False
