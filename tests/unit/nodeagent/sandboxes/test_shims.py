"""Which processes are shims of which containerd."""

from __future__ import annotations

from pathlib import Path

from nodeagent.sandboxes.shims import Shim, running

SOCKET = Path("/run/node1/containerd.sock")


def process(proc: Path, pid: int, *words: str) -> None:
    (proc / str(pid)).mkdir()
    (proc / str(pid) / "cmdline").write_bytes("\0".join([*words, ""]).encode())


def shim(proc: Path, pid: int, id: str, socket: str = str(SOCKET), namespace: str = "k8s.io") -> None:
    process(proc, pid, "/usr/bin/containerd-shim-runc-v2", "-namespace", namespace, "-id", id, "-address", socket)


def test_only_the_shims_of_this_containerd_and_namespace_are_found(tmp_path: Path) -> None:
    shim(tmp_path, 10, "a")
    shim(tmp_path, 11, "b", socket="/run/node2/containerd.sock")
    shim(tmp_path, 12, "c", namespace="moby")
    process(tmp_path, 13, "sleep", "1000")
    address = ("-namespace", "k8s.io", "-id", "d", "-address", str(SOCKET))
    process(tmp_path, 16, "/usr/bin/containerd-shim-runc-v2", *address, "delete")
    process(tmp_path, 17, "/usr/bin/containerd-shim-runc-v2", "-debug", *address)
    process(tmp_path, 14)
    (tmp_path / "self").mkdir()
    (tmp_path / "15").mkdir()
    assert set(running(SOCKET, "k8s.io", tmp_path)) == {Shim(10, "a"), Shim(17, "d")}
