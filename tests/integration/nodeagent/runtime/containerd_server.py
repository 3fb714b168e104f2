"""A containerd of the tests' own: its own state, root and socket, in a network namespace that ends with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import grpc

CONFIG = """
version = 2
root = "{root}/root"
state = "{root}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.grpc.v1.cri"]
[grpc]
  address = "{root}/containerd.sock"
"""


def program(name: str) -> Path:
    """Where `name` is on PATH."""
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not on PATH")
    return Path(found)


class ContainerdServer:
    """One containerd under `root`, which must be short: the names of Unix sockets end at 107 bytes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.socket = root / "containerd.sock"
        self._process: subprocess.Popen[bytes] | None = None
        (root / "config.toml").write_text(CONFIG.format(root=root))

    def start(self) -> None:
        """Starts it and waits until it answers."""
        command = ["unshare", "--net", "containerd", "--config", str(self.root / "config.toml")]
        with (self.root / "containerd.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.root)
        deadline = time.monotonic() + 30
        with grpc.insecure_channel(f"unix:{self.socket}") as channel:
            try:
                grpc.channel_ready_future(channel).result(timeout=deadline - time.monotonic())
            except grpc.FutureTimeoutError:
                raise RuntimeError((self.root / "containerd.log").read_text()[-4000:]) from None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Ends it and waits for its end; its shims live on."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def ctr(self, *arguments: str) -> str:
        """What ctr prints, in the namespace that the tests use."""
        command = ["ctr", "--address", str(self.socket), "--namespace", "k8s.io", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout

    def close(self) -> None:
        """Ends it and what its shims still run, and unmounts what is left of it."""
        self.kill(signal.SIGTERM)
        self.kill_shims()
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for mount in reversed([mount for mount in mounts if mount.startswith(f"{self.root}/")]):
            subprocess.run(["umount", "--lazy", mount], check=False)

    def kill_shims(self) -> None:
        """Kills the shims, and what they run."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and self._is_shim(entry):
                children = (entry / "task" / entry.name / "children").read_text().split()
                for pid in (entry.name, *children):
                    os.kill(int(pid), signal.SIGKILL)

    def _is_shim(self, process: Path) -> bool:
        try:
            arguments = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return arguments[0].endswith(b"containerd-shim-runc-v2") and str(self.socket).encode() in arguments
