"""emptyDir: a folder that lives as long as its pod, on the node's disk or in memory.

Everybody may write to it (0777), since containers of a pod may run as different users; as in Kubernetes.
"""

from __future__ import annotations

from pathlib import Path

from nodeagent.volumes.mounting import mount_tmpfs, mounts_below
from podwire import quantity, v1


def make(source: v1.EmptyDirVolumeSource, folder: Path) -> None:
    """Makes the volume at `folder`; what is there already stays as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    if source.medium == "Memory":
        if folder not in mounts_below(folder.parent):
            mount_tmpfs(folder, _options(source))
    else:
        folder.chmod(0o777)


def _options(source: v1.EmptyDirVolumeSource) -> str:
    size = quantity.to_bytes(source.size_limit.string) if source.size_limit.string else 0
    # tmpfs' own default is half of the machine's memory.
    return f"mode=0777,size={size}" if size else "mode=0777"
