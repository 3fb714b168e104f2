"""From what the pod's worker asks for to an OCI specification. What the node has to give is found out once."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from nodeagent import labels
from nodeagent.containerd.images import architecture
from nodeagent.containers import capabilities, oci, seccomp
from nodeagent.containers.errors import ContainerError
from nodeagent.containers.process import process
from nodeagent.containers.users import Accounts
from nodeagent.model import ContainerId, Image, Mount, PodUid, Role
from podwire import v1

_NOT_DEVICES: Final = frozenset({"pts", "shm", "fd", "mqueue", "console", ".lxc", ".lxd-mounts", ".udev"})


@dataclass(frozen=True, slots=True)
class Request:
    """A container that the pod's worker wants to run. Each has a name of its own, which its nonce makes different."""

    pod: v1.Pod
    container: v1.Container
    role: Role
    attempt: int
    sandbox_attempt: int
    image: Image
    mounts: Sequence[Mount]
    env: Sequence[tuple[str, str]]
    backoff_seconds: float
    nonce: str = field(default_factory=labels.nonce)

    @property
    def uid(self) -> PodUid:
        return PodUid(self.pod.metadata.uid)

    @property
    def id(self) -> ContainerId:
        return labels.container_id(self.uid, self.container.name, self.attempt, self.nonce)


class Specs:
    """Makes specifications on this node. `private_cgroups`: containers see only their own groups (version 2 alone)."""

    def __init__(self, *, private_cgroups: bool, seccomp_profiles: Path) -> None:
        self._private_cgroups = private_cgroups
        self._profiles = seccomp_profiles
        self._capabilities = capabilities.available()
        self._default_seccomp = seccomp.find_profile()
        self._architecture = architecture()
        # The same few sets of capabilities come again and again.
        self._seccomp = cache(self._convert_default)

    def container(
        self, request: Request, surroundings: oci.Surroundings, accounts: Accounts, hostname: str
    ) -> dict[str, Any]:
        """The specification of what is asked for. Raises ContainerError where it cannot be had."""
        context = request.container.security_context
        granted = capabilities.granted(context, self._capabilities)
        confinement = oci.Confinement(
            seccomp=self._seccomp_of(request.pod, context, granted),
            privileged=context.privileged,
            read_only_root=context.read_only_root_filesystem,
            unmasked_proc=context.proc_mount == "Unmasked",
            host_devices=tuple(_host_devices()) if context.privileged else (),
        )
        what = process(
            request.image,
            request.pod,
            request.container,
            env=request.env,
            hostname=hostname,
            accounts=accounts,
            capabilities=granted,
        )
        return oci.container_spec(
            what,
            surroundings,
            confinement,
            request.mounts,
            private_cgroups=self._private_cgroups,
            best_effort=_is_best_effort(request.pod),
        )

    def _seccomp_of(self, pod: v1.Pod, context: v1.SecurityContext, granted: tuple[str, ...]) -> dict[str, Any] | None:
        if context.privileged:
            return None
        asked = context.seccomp_profile
        if not asked.type:
            asked = pod.spec.security_context.seccomp_profile
        match asked.type:
            case "Unconfined":
                return None
            case "Localhost":
                return seccomp.to_oci(
                    self._local_profile(asked.localhost_profile), architecture=self._architecture, capabilities=granted
                )
            case _:
                return self._seccomp(granted)

    def _convert_default(self, granted: tuple[str, ...]) -> dict[str, Any] | None:
        if self._default_seccomp is None:
            return None
        return seccomp.to_oci(self._default_seccomp, architecture=self._architecture, capabilities=granted)

    def _local_profile(self, name: str) -> dict[str, Any]:
        path = self._profiles / name
        try:
            if not path.resolve().is_relative_to(self._profiles.resolve()):
                raise OSError("it is not in that folder")
            tree = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ContainerError(
                "CreateContainerConfigError", f'cannot use seccomp profile "{name}" of {self._profiles}: {error}'
            ) from None
        if not isinstance(tree, dict) or "defaultAction" not in tree:
            raise ContainerError("CreateContainerConfigError", f'seccomp profile "{name}" has no defaultAction')
        return tree


def _is_best_effort(pod: v1.Pod) -> bool:
    """Whether no container of the pod requests or limits anything (Kubernetes' quality of service class)."""
    return not any(
        container.resources.requests or container.resources.limits
        for container in (*pod.spec.init_containers, *pod.spec.containers)
    )


def _host_devices() -> list[dict[str, Any]]:
    """The node's devices, for a privileged container."""
    devices = []
    for folder, folders, names in os.walk("/dev"):
        folders[:] = [name for name in folders if name not in _NOT_DEVICES]
        for name in names:
            if name in _NOT_DEVICES:
                continue
            path = Path(folder, name)
            status = path.lstat()
            kind = {stat.S_IFBLK: "b", stat.S_IFCHR: "c"}.get(stat.S_IFMT(status.st_mode))
            if kind:
                devices.append(
                    {
                        "path": str(path),
                        "type": kind,
                        "major": os.major(status.st_rdev),
                        "minor": os.minor(status.st_rdev),
                        "fileMode": stat.S_IMODE(status.st_mode),
                        "uid": status.st_uid,
                        "gid": status.st_gid,
                    }
                )
    return devices
