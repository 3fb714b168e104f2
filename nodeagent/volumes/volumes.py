"""The volumes of pods, in one place: made before the first container, mounted into each, removed with the pod.

Everything of a pod is below `<folder>/<uid>/volumes`, and what is mounted there is found in the kernel's own table, so
that a pod's volumes are removed without knowing what an agent before this one had made of them.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

from nodeagent.model import Mount, PodUid
from nodeagent.volumes import empty_dir, host_path
from nodeagent.volumes.mounting import mounts_below, unmount
from podwire import v1

_PROPAGATION = {"": "rprivate", "None": "rprivate", "HostToContainer": "rslave", "Bidirectional": "rshared"}


class VolumeError(Exception):
    """A volume could not be made; the message names it. Trying again may help."""


class UnsupportedVolume(VolumeError):
    """The pod uses a volume of a kind, or in a way, that this agent does not know: trying again is of no use."""


class Volumes:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def prepare(self, pod: v1.Pod) -> None:
        """Makes the pod's volumes; nothing that is there already is touched. Raises VolumeError."""
        if pod.spec.volumes:
            await asyncio.to_thread(self._prepare, pod)

    async def mounts(self, pod: v1.Pod, container: v1.Container) -> Sequence[Mount]:
        """What `container` mounts of the prepared volumes. Raises VolumeError."""
        if not container.volume_mounts:
            return ()
        return await asyncio.to_thread(self._mounts, pod, container)

    async def remove(self, uid: PodUid) -> None:
        await asyncio.to_thread(self._remove, uid)

    def _prepare(self, pod: v1.Pod) -> None:
        for volume in pod.spec.volumes:
            if not (volume.HasField("empty_dir") or volume.HasField("host_path")):
                kind = next((field.json_name for field, _ in volume.ListFields() if field.name != "name"), "none")
                raise UnsupportedVolume(f'volume "{volume.name}": volumes of type {kind} are not supported yet')
        for volume in pod.spec.volumes:
            try:
                if volume.HasField("host_path"):
                    host_path.make(volume.host_path)
                else:
                    empty_dir.make(volume.empty_dir, self._empty_dir(PodUid(pod.metadata.uid), volume.name))
            except (OSError, host_path.WrongType) as error:
                raise VolumeError(f'MountVolume.SetUp failed for volume "{volume.name}" : {error}') from error

    def _mounts(self, pod: v1.Pod, container: v1.Container) -> Sequence[Mount]:
        by_name = {volume.name: volume for volume in pod.spec.volumes}
        mounts = []
        for wanted in container.volume_mounts:
            if wanted.sub_path_expr:
                raise UnsupportedVolume(f'volumeMount "{wanted.name}": subPathExpr is not supported yet')
            volume = by_name[wanted.name]
            if volume.HasField("host_path"):
                source = Path(volume.host_path.path)
            else:
                source = self._empty_dir(PodUid(pod.metadata.uid), volume.name)
            if wanted.sub_path:
                source = _within(source, wanted.sub_path)
            mounts.append(Mount(source, wanted.mount_path, wanted.read_only, _PROPAGATION[wanted.mount_propagation]))
        return mounts

    def _remove(self, uid: PodUid) -> None:
        folder = self._folder / uid / "volumes"
        for point in mounts_below(folder):
            unmount(point)
        if folder.exists():
            shutil.rmtree(folder)

    def _empty_dir(self, uid: PodUid, name: str) -> Path:
        return self._folder / uid / "volumes" / "empty-dir" / name


def _within(volume: Path, sub_path: str) -> Path:
    """`sub_path` in `volume`, made if it is missing. A container must not lead it out of the volume by a link."""
    path = (volume / sub_path).resolve()
    if not path.is_relative_to(volume.resolve()):
        raise VolumeError(f'subPath "{sub_path}" leads out of its volume')
    if not path.exists():
        try:
            path.mkdir(mode=0o755, parents=True)
        except OSError as error:
            raise VolumeError(f'subPath "{sub_path}" cannot be made: {error}') from error
    return path
