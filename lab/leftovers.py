"""Takes away what pods and programs leave on the machine when they are killed: processes, mounts, sockets, cgroups.

Each function looks at what is there, so it does not matter who made it or how far that got; none needs the programs of
the lab to be alive.
"""

import ctypes
import os
import re
import shutil
import time
from collections.abc import Collection, Iterable
from pathlib import Path

from lab import network, processes
from lab.plan import Host

CGROUP_ROOT = Path("/sys/fs/cgroup")
_MNT_DETACH = 2
_NSFS = "nsfs"


def power_off(hosts: Collection[Host], folders: Collection[Path]) -> None:
    """Kills all that lives on the hosts: programs, shims, pods, strangers' shells. None gets a chance to clean up."""
    sockets = [socket for host in hosts for socket in _shim_sockets(host.run)]
    namespaces = [host.netns for host in hosts if network.is_on(host.netns)] + _namespaces_below(folders)
    cgroups = [cgroup for host in hosts for cgroup in _cgroups(host)]
    _thaw(cgroups)
    # Again, until a look finds nobody: a process may have started another between the look and its end.
    deadline = time.monotonic() + 30.0
    while found := _unique(processes.inhabitants(namespaces) + processes.members(cgroups)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes {[process.pid for process in found]} keep coming back; end their parents")
        processes.kill(found)
    for socket in sockets:
        socket.unlink(missing_ok=True)
    remove_if_empty(Path("/run/containerd/s"), Path("/run/containerd"))


def unmount_below(folders: Collection[Path]) -> None:
    """Unmounts everything below the folders, the last mounted first."""
    for mount_point, _ in reversed(_mounts_below(folders)):
        _unmount(mount_point)
    left = _mounts_below(folders)
    if left:
        raise OSError(f"still mounted: {', '.join(str(mount_point) for mount_point, _ in left)}")


def remove_cgroups(hosts: Iterable[Host]) -> None:
    for host in hosts:
        for cgroup in reversed(_cgroups(host)):
            _rmdir_when_empty(cgroup)
    for hierarchy in _hierarchies():
        remove_if_empty(hierarchy / "podwire")


def remove_folders(*folders: Path) -> None:
    """Removes folders with all they hold; nothing may be mounted there any more."""
    for folder in folders:
        if folder.exists():
            shutil.rmtree(folder)


def remove_if_empty(*folders: Path) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            # Somebody else's things are in it, or it is not there: either way it is not ours to remove.
            return


def _unique(found: list[processes.Process]) -> list[processes.Process]:
    return list({process.pid: process for process in found}.values())


def _shim_sockets(run: Path) -> list[Path]:
    """containerd keeps its shims' sockets in one place for the whole machine; each bundle names its own."""
    addresses = (file.read_text().strip() for file in run.glob("containerd/io.containerd.runtime.v2.task/*/*/address"))
    return [Path(address.removeprefix("unix://")) for address in addresses if address.startswith("unix:///")]


def _mounts_below(folders: Collection[Path]) -> list[tuple[Path, str]]:
    """(mount point, type) of each mount below the folders, in the order they were mounted (proc(5), mountinfo)."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split(" ")
        mount_point = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4]))
        if any(mount_point.is_relative_to(folder) for folder in folders):
            found.append((mount_point, fields[fields.index("-") + 1]))
    return found


def _namespaces_below(folders: Collection[Path]) -> list[Path]:
    """The pins of the pods' network namespaces."""
    return [mount_point for mount_point, kind in _mounts_below(folders) if kind == _NSFS]


def _unmount(mount_point: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    # Detached: a file of it that is still open somewhere must not keep the rest of the lab from being removed.
    if libc.umount2(os.fsencode(mount_point), _MNT_DETACH) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot unmount {mount_point}: {os.strerror(number)}")


def _hierarchies() -> list[Path]:
    """Each place where cgroups are: one folder with version 2, one a controller with version 1."""
    if (CGROUP_ROOT / "cgroup.controllers").exists():
        return [CGROUP_ROOT]
    return [path for path in CGROUP_ROOT.iterdir() if path.is_dir() and not path.is_symlink()]


def _cgroups(host: Host) -> list[Path]:
    """The host's cgroups in every hierarchy, parents first."""
    found: list[Path] = []
    for hierarchy in _hierarchies():
        top = hierarchy / host.cgroup.lstrip("/")
        if top.is_dir():
            found.extend(Path(folder) for folder, _, _ in os.walk(top))
    return found


def _thaw(cgroups: Iterable[Path]) -> None:
    """A frozen process does not die of SIGKILL before it is thawed."""
    for cgroup in cgroups:
        for name, value in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
            if (cgroup / name).exists():
                (cgroup / name).write_text(value)


def _rmdir_when_empty(cgroup: Path, patience: float = 5.0) -> None:
    """The kernel takes a moment to let go of a cgroup whose last process has been killed, and tells nobody."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return cgroup.rmdir()
        except FileNotFoundError:
            return None
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
