"""Where a node's runtime keeps what, and how it reaches containerd. Every path is a parameter: nodes share machines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nodeagent.model import ContainerId, PodUid


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """`state_dir` and `log_dir` persist, `run_dir` is gone after a reboot (a tmpfs under /run)."""

    node_name: str
    containerd_socket: Path
    containerd_namespace: str
    runc_root: Path
    """runc's state, one folder a node: two containerds on one machine share their default."""
    state_dir: Path
    run_dir: Path
    log_dir: Path
    logs_socket: Path
    """The log pump's."""
    cgroup_parent: str
    """As in /podwire/lab-node1; the pods' groups are made in it."""
    snapshotter: str = "overlayfs"
    """The one that containerd's CRI unpacks images into; this is the default of both."""
    hosts: Path = Path("/etc/hosts")
    resolv_conf: Path = Path("/etc/resolv.conf")

    @property
    def sandboxes(self) -> Path:
        """A folder a sandbox: its pinned namespaces, its shm, and the files its containers share."""
        return self.run_dir / "sandboxes"

    @property
    def pipes(self) -> Path:
        """A folder a container: the FIFOs of its output, and of the execs in it."""
        return self.run_dir / "pipes"

    @property
    def seccomp_profiles(self) -> Path:
        """Where `seccompProfile.localhostProfile` is looked for."""
        return self.state_dir / "seccomp"

    @property
    def pause_root(self) -> Path:
        return self.state_dir / "pause"

    def pod_logs(self, uid: PodUid, namespace: str, name: str) -> Path:
        """The folder of a pod's logs, called as the kubelet calls it."""
        return self.log_dir / f"{namespace}_{name}_{uid}"

    def pod_cgroup(self, uid: PodUid) -> str:
        return f"{self.cgroup_parent.rstrip('/')}/pod{uid}"

    def cgroup(self, uid: PodUid, container: ContainerId) -> str:
        return f"{self.pod_cgroup(uid)}/{container}"
