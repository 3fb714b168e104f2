"""Removing pods for good, and what killed agents left of pods that nobody knows any more."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Callable, Collection, Coroutine, Iterable
from pathlib import Path
from typing import Final

import structlog

from cni.errors import CniError
from cni.runner import Network
from nodeagent import labels
from nodeagent.containerd import leases
from nodeagent.containerd.client import Client, ContainerdError
from nodeagent.containerd.records import Record, Records
from nodeagent.containers.errors import SandboxError
from nodeagent.containers.exec import Execs
from nodeagent.containers.lifecycle import Containers
from nodeagent.model import ContainerId, PodUid, Role
from nodeagent.observing import Observer
from nodeagent.register import Register
from nodeagent.runtime_settings import RuntimeSettings
from nodeagent.sandboxes import shims
from nodeagent.sandboxes.cgroups import Cgroups
from nodeagent.sandboxes.lifecycle import Sandboxes

log = structlog.get_logger(__name__)

# As labels.sandbox_id makes it; others' containers in the same namespace are not ours to judge.
_SANDBOX_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}-s[0-9]+-[0-9a-z]+")


class Leftovers:
    def __init__(
        self,
        settings: RuntimeSettings,
        client: Client,
        records: Records,
        register: Register,
        observer: Observer,
        sandboxes: Sandboxes,
        containers: Containers,
        execs: Execs,
        cgroups: Cgroups,
        network: Callable[[], Network | None],
    ) -> None:
        self._settings = settings
        self._client = client
        self._records = records
        self._register = register
        self._observer = observer
        self._sandboxes = sandboxes
        self._containers = containers
        self._execs = execs
        self._cgroups = cgroups
        self._network = network

    async def remove_pod(self, uid: PodUid) -> None:
        """Removes everything of a pod: its containers, then what they share. Raises as its parts do; call it again."""
        records = await self._observer.records(uid)
        containers = [record for record in records if record.labels[labels.ROLE] != Role.SANDBOX]
        await _together(
            self._containers.remove(ContainerId(record.id), uid, Path(record.labels[labels.LOG_PATH]))
            for record in containers
        )
        sandboxes = {record.id for record in records} - {record.id for record in containers}
        # A folder without a record: what is pinned in it may still have a network.
        sandboxes |= {name for name in _names(self._settings.sandboxes) if labels.pod_of_sandbox(name) == uid}
        await _together(self._sandboxes.remove(ContainerId(id), uid) for id in sandboxes)
        for name in _names(self._settings.pipes):
            if labels.pod_of_container(name) == uid:
                await self._containers.clear_pipes(ContainerId(name))
        await self._cgroups.remove(self._settings.pod_cgroup(uid))
        for folder in self._settings.log_dir.glob(f"*_{uid}"):
            shutil.rmtree(folder, ignore_errors=True)
        self._register.drop_pod(uid)

    async def sweep(self, keep: Collection[PodUid]) -> None:
        """Removes what is there of pods that are not in `keep`, and what belongs to no pod. Raises ContainerdError.

        What cannot be removed now is logged, and tried again at the agent's next start.
        """
        leases_ended = await leases.end_leftovers(self._client, self._settings.node_name)
        records = await self._observer.records()
        strangers = self._pods_on_disk().union(_pod(record) for record in records).difference(keep)
        for uid in strangers:
            try:
                await self.remove_pod(uid)
            except (ContainerdError, SandboxError, CniError, OSError) as error:
                log.warning("pod not swept", pod_uid=uid, error=str(error))
        known = {record.id for record in records}
        for key in await self._records.snapshots(labels.POD_UID):
            if key not in known:
                await self._records.remove_snapshot(key)
        kept = [record for record in records if _pod(record) in keep]
        await asyncio.gather(*(self._clear_execs(record) for record in kept))
        if (network := self._network()) is not None:
            await network.gc({record.id for record in kept if record.labels[labels.ROLE] == Role.SANDBOX})
        shims_ended = await self._end_forgotten_shims()
        log.info("swept", leases=leases_ended, pods=sorted(strangers), shims=shims_ended)

    async def _end_forgotten_shims(self) -> int:
        """A sandbox is removed last in its pod: no record of it, nothing in its shim."""
        known = {record.id for record in await self._records.list()}
        return await shims.end_forgotten(
            self._settings.containerd_socket,
            self._settings.containerd_namespace,
            lambda id: id not in known and _SANDBOX_ID.fullmatch(id) is not None,
        )

    async def _clear_execs(self, record: Record) -> None:
        """One container whose shim does not answer must not keep the node's other pods waiting."""
        id = ContainerId(record.id)
        try:
            await self._execs.clear_leftovers(id, self._settings.cgroup(_pod(record), id))
        except (ContainerdError, OSError) as error:
            log.warning("execs not swept", container=id, error=str(error))

    def _pods_on_disk(self) -> set[PodUid]:
        """The pods that have files, a cgroup or logs on this node."""
        found = {
            *map(labels.pod_of_sandbox, _names(self._settings.sandboxes)),
            *map(labels.pod_of_container, _names(self._settings.pipes)),
            *(PodUid(name.removeprefix("pod")) for name in self._cgroups.children(self._settings.cgroup_parent)
              if name.startswith("pod")),
            *(PodUid(name.rpartition("_")[2]) for name in _names(self._settings.log_dir) if name.count("_") == 2),
        }  # fmt: skip
        return {uid for uid in found if uid}


def _pod(record: Record) -> PodUid:
    return PodUid(record.labels[labels.POD_UID])


def _names(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir()]
    except FileNotFoundError:
        return []


async def _together(removals: Iterable[Coroutine[None, None, None]]) -> None:
    """Every one is tried; then the first failure is raised."""
    for outcome in await asyncio.gather(*removals, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
