"""What a lab has put on the machine, found without asking the lab."""

from pathlib import Path

from lab.leftovers import CGROUP_ROOT
from lab.plan import DATA_ROOT, NETNS_ROOT, RUN_ROOT


def traces(name: str) -> list[str]:
    """Every process, namespace, mount, cgroup and folder of the lab of that name."""
    return [*_processes(name), *_namespaces(name), *_mounts(name), *_cgroups(name), *_folders(name)]


def shim_sockets(name: str) -> list[Path]:
    """Where the shims of the lab's nodes listen: outside the lab's own folders."""
    bundles = (RUN_ROOT / name).glob("node*/containerd/io.containerd.runtime.v2.task/*/*/address")
    return [Path(file.read_text().strip().removeprefix("unix://")) for file in bundles]


def _processes(name: str) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue
        if f"PODWIRE_LAB={name}/".encode() in environment or f"/labs/{name}/".encode() in command:
            found.append(f"process {folder.name}: {command.decode(errors='replace')}")
    return found


def _namespaces(name: str) -> list[str]:
    return [f"network namespace {path.name}" for path in NETNS_ROOT.glob(f"podwire-{name}-*")]


def _mounts(name: str) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [f"mount {line}" for line in lines if f"/labs/{name}/" in line or f"/podwire-{name}-" in line]


def _cgroups(name: str) -> list[str]:
    return [
        f"cgroup {path}" for pattern in ("podwire", "*/podwire") for path in CGROUP_ROOT.glob(f"{pattern}/{name}-*")
    ]


def _folders(name: str) -> list[str]:
    return [f"folder {root / name}" for root in (RUN_ROOT, DATA_ROOT) if (root / name).exists()]
