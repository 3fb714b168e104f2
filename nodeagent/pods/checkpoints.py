"""What the agent keeps of each pod on disk, so that it carries on where it was killed, with no control plane in reach.

A checkpoint is the pod as the API last gave it, with the status that was reported last. It is written before anything
of the pod is made and removed after everything of it is gone, and a status is in it before it is sent: an agent that
starts never takes back what it said. One file a pod, `<folder>/<uid>/pod.pb`, replaced by a rename; it is not synced to
the disk, because a machine that loses power loses the containers too.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import structlog
from google.protobuf.message import DecodeError

from nodeagent.model import PodUid
from podwire import v1

log = structlog.get_logger(__name__)

_FILE: Final = "pod.pb"


class Checkpoints:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def save(self, pod: v1.Pod, status: v1.PodStatus) -> None:
        kept = v1.Pod(metadata=pod.metadata, spec=pod.spec, status=status)
        await asyncio.to_thread(self._write, PodUid(pod.metadata.uid), kept.SerializeToString())

    async def load(self) -> Mapping[PodUid, v1.Pod]:
        return await asyncio.to_thread(self._read)

    async def remove(self, uid: PodUid) -> None:
        """The pod's whole folder goes; what others keep in it must be gone or worthless by now."""
        await asyncio.to_thread(self._delete, uid)

    def _write(self, uid: PodUid, data: bytes) -> None:
        folder = self._folder / uid
        folder.mkdir(parents=True, exist_ok=True)
        new = folder / f"{_FILE}.new"
        new.write_bytes(data)
        new.rename(folder / _FILE)

    def _delete(self, uid: PodUid) -> None:
        folder = self._folder / uid
        # The checkpoint first: a folder without one is a leftover that the next start removes.
        (folder / _FILE).unlink(missing_ok=True)
        if folder.exists():
            shutil.rmtree(folder)

    def _read(self) -> Mapping[PodUid, v1.Pod]:
        pods: dict[PodUid, v1.Pod] = {}
        for path in sorted(self._folder.glob(f"*/{_FILE}")):
            try:
                pod = v1.Pod.FromString(path.read_bytes())
            except DecodeError:
                # Only a machine that lost power writes half a file; the API knows the pod.
                log.warning("checkpoint is damaged and left out", path=str(path))
                continue
            if pod.metadata.uid == path.parent.name:
                pods[PodUid(pod.metadata.uid)] = pod
        return pods
