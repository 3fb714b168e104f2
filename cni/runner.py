"""A node's pod network: runs whatever configuration list the node has, for one container after another.

What the CNI specification asks of a runtime (sections 3 and 4): plugins in order for ADD and CHECK, in reverse for DEL,
each with the result of the ones before it; results cached for DEL, CHECK and GC. Our own plugin runs in this process,
others as executables: started by `subprocess` in a thread, which uses vfork, since a process with gRPC threads must
not fork (uvloop's own processes do).
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import ip_interface
from pathlib import Path
from typing import Any, Final

from cni.attachments import Attachments, Record
from cni.configuration import at_least
from cni.conflist import OWN_PLUGIN, ConfList
from cni.errors import INVALID_CONFIGURATION, IO_FAILURE, NOT_AS_ADDED, CniError
from cni.ipam import Owner
from cni.namespaces import is_namespace
from cni.plugin import Attachment, Plugin
from cni.threads import run_to_end

_PLUGIN_SECONDS: Final = 60.0
"""How long an executable may take. Generous: some wait for a daemon or a cloud; then it is killed."""

_INTERFACE: Final = "eth0"

_AT_ONCE: Final = 8
"""Attachments worked on at the same time. More only queue at the kernel's one lock for interfaces."""


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A port of the node that leads to one of the pod, for plugins that have the capability."""

    host_port: int
    container_port: int
    protocol: str = "TCP"
    host_ip: str = ""

    def to_json(self) -> dict[str, Any]:
        mapping: dict[str, Any] = {
            "hostPort": self.host_port,
            "containerPort": self.container_port,
            "protocol": self.protocol.lower(),
        }
        return {**mapping, "hostIP": self.host_ip} if self.host_ip else mapping


@dataclass(frozen=True, slots=True)
class Result:
    """What ADD gave the container: its addresses without prefix, and all the last plugin said."""

    addresses: tuple[str, ...]
    raw: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Result:
        """The addresses that are the container's own: of an interface in its namespace, or of no named one."""
        interfaces = raw.get("interfaces", [])

        def is_inside(ip: Mapping[str, Any]) -> bool:
            index = ip.get("interface")
            return index is None or bool(interfaces[index].get("sandbox"))

        return cls(tuple(str(ip_interface(ip["address"]).ip) for ip in raw.get("ips", []) if is_inside(ip)), raw)


class Network:
    """The pod network of one node. `state_dir` survives restarts; `bin_dirs` has the other plugins' executables.

    Every method raises CniError. Calls for one attachment run one after another; a cancelled call ends what it began.
    """

    def __init__(self, conflist: ConfList, *, state_dir: Path, bin_dirs: Sequence[Path] = ()) -> None:
        self.conflist = conflist
        self._state_dir = state_dir
        self._bin_dirs = tuple(bin_dirs)
        self._attachments = Attachments(state_dir / "attachments")
        self._plugin = Plugin()
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="cni")
        self._locks: dict[Owner, tuple[asyncio.Lock, int]] = {}
        self._collecting = asyncio.Lock()
        self._open = asyncio.Event()
        self._open.set()

    def close(self) -> None:
        """Ends the threads. What runs is awaited by its caller."""
        self._threads.shutdown(wait=False)

    async def add(
        self,
        container_id: str,
        netns: Path,
        *,
        ifname: str = _INTERFACE,
        args: Mapping[str, str] | None = None,
        port_mappings: Sequence[PortMapping] = (),
    ) -> Result:
        """Connects the container. Where that is done already, and nothing has changed since, says the same again."""
        capabilities = {"portMappings": [mapping.to_json() for mapping in port_mappings]} if port_mappings else {}
        record = Record(container_id, ifname, netns, self.conflist, dict(args or {}), capabilities)
        async with self._alone(Owner(container_id, ifname)):
            return await run_to_end(self._threads, lambda: self._add(record))

    async def delete(self, container_id: str, netns: Path | None, *, ifname: str = _INTERFACE) -> None:
        """Disconnects the container, however much of it is there, and frees what it had."""
        async with self._alone(Owner(container_id, ifname)):
            await run_to_end(self._threads, lambda: self._delete(container_id, netns, ifname))

    async def check(self, container_id: str, netns: Path, *, ifname: str = _INTERFACE) -> None:
        """Raises CniError where the container is not connected as ADD left it."""
        async with self._alone(Owner(container_id, ifname)):
            record = self._attachments.read(container_id, ifname)
            if record is None or record.result is None:
                raise CniError(NOT_AS_ADDED, f"the container {container_id} was never connected")
            await run_to_end(self._threads, lambda: self._check(record))

    async def gc(self, keep: Collection[str]) -> None:
        """Undoes every attachment but those of the containers in `keep` and of those that a call works on now.

        One that cannot be undone does not keep the others: all are tried, then the first failure is raised.
        """
        async with self._collecting:
            failures = []
            for container_id, interface in list(self._attachments.known()):
                if container_id not in keep and Owner(container_id, interface) not in self._locks:
                    try:
                        await self.delete(container_id, None, ifname=interface)
                    except CniError as error:
                        failures.append(error)
            if not self.conflist.disable_gc and at_least(self.conflist.version, "1.1.0"):
                await self._collect_alone(keep)
            if failures:
                raise failures[0]

    async def _collect_alone(self, keep: Collection[str]) -> None:
        """GC must not run beside an ADD that it does not know of (section 4): new calls wait for its end."""
        self._open.clear()
        try:
            recorded = {Owner(*key) for key in self._attachments.known() if key[0] in keep}
            # A container to keep is kept, also where its record is lost.
            valid = recorded | {Owner(container_id, _INTERFACE) for container_id in keep} | set(self._locks)
            await run_to_end(self._threads, lambda: self._collect(valid))
        finally:
            self._open.set()

    async def status(self) -> None:
        """Raises CniError where the network is not ready to connect containers."""
        await run_to_end(self._threads, self._status)

    async def repair(self) -> None:
        """Puts back what the host's side of our own plugin has lost, as after somebody flushed iptables."""
        for plugin in self.conflist.plugins:
            if plugin["type"] == OWN_PLUGIN:
                configuration = self._configuration(self.conflist, plugin)
                await run_to_end(self._threads, partial(self._plugin.repair, configuration))

    # What follows runs in threads.

    def _add(self, record: Record) -> Result:
        self._attachments.wait_for_executables(record.container_id, record.interface, _PLUGIN_SECONDS)
        known = self._attachments.read(record.container_id, record.interface)
        if known is not None:
            if known.namespace == record.namespace and known.result is not None and self._still_holds(known):
                return Result.of(known.result)
            self._delete(record.container_id, known.namespace, record.interface)
        self._attachments.write(record)
        result: dict[str, Any] | None = None
        try:
            for plugin in self.conflist.plugins:
                result = self._call("ADD", self.conflist, plugin, record, result) or {}
        except CniError:
            # What cannot be undone now stays on record, for the next ADD, DEL or GC.
            with suppress(CniError):
                self._delete(record.container_id, record.namespace, record.interface)
            raise
        self._attachments.write(replace(record, result=result))
        return Result.of(result or {})

    def _still_holds(self, record: Record) -> bool:
        if record.namespace is None or not is_namespace(record.namespace):
            return False
        try:
            self._check(record)
        except CniError:
            return False
        return True

    def _delete(self, container_id: str, netns: Path | None, interface: str) -> None:
        """All plugins are tried; the first failure is raised, and the attachment is then still on record."""
        self._attachments.wait_for_executables(container_id, interface, _PLUGIN_SECONDS)
        record = self._attachments.read(container_id, interface)
        if record is None:
            record = Record(container_id, interface, netns, None, {}, {})
        conflist = record.conflist or self.conflist
        namespace = record.namespace or netns
        if namespace is not None and not is_namespace(namespace):
            namespace = None
        present = replace(record, namespace=namespace)
        failures = []
        for plugin in reversed(conflist.plugins):
            try:
                self._call("DEL", conflist, plugin, present, record.result)
            except CniError as error:
                failures.append(error)
        if failures:
            raise failures[0]
        self._attachments.forget(container_id, interface)

    def _check(self, record: Record) -> None:
        conflist = record.conflist or self.conflist
        if conflist.disable_check or not at_least(conflist.version, "0.4.0"):
            return
        for plugin in conflist.plugins:
            self._call("CHECK", conflist, plugin, record, record.result)

    def _collect(self, valid: Collection[Owner]) -> None:
        listed = [{"containerID": owner.container_id, "ifname": owner.interface} for owner in valid]
        extra = {"cni.dev/valid-attachments": listed}
        for plugin in self.conflist.plugins:
            configuration = {**self._configuration(self.conflist, plugin), **extra}
            if plugin["type"] == OWN_PLUGIN:
                self._plugin.collect(configuration, valid)
            else:
                self._execute("GC", plugin["type"], configuration, {})

    def _status(self) -> None:
        if not at_least(self.conflist.version, "1.1.0"):
            return
        for plugin in self.conflist.plugins:
            configuration = self._configuration(self.conflist, plugin)
            if plugin["type"] == OWN_PLUGIN:
                self._plugin.status(configuration)
            else:
                self._execute("STATUS", plugin["type"], configuration, {})

    def _call(
        self,
        verb: str,
        conflist: ConfList,
        plugin: Mapping[str, Any],
        record: Record,
        previous: Mapping[str, Any] | None,
    ) -> dict[str, Any] | None:
        """One verb of one plugin for one attachment; what ADD answers, else None."""
        configuration = self._configuration(conflist, plugin)
        runtime = {key: value for key, value in record.capabilities.items() if plugin.get("capabilities", {}).get(key)}
        if runtime:
            configuration["runtimeConfig"] = runtime
        if previous is not None:
            configuration["prevResult"] = previous
        if plugin["type"] == OWN_PLUGIN:
            attachment = Attachment(record.container_id, record.interface, record.namespace)
            if verb == "ADD":
                return self._plugin.add(configuration, attachment)
            (self._plugin.delete if verb == "DEL" else self._plugin.check)(configuration, attachment)
            return None
        environment = {
            "CNI_CONTAINERID": record.container_id,
            "CNI_NETNS": str(record.namespace or ""),
            "CNI_IFNAME": record.interface,
            "CNI_ARGS": ";".join(f"{key}={value}" for key, value in record.arguments.items()),
        }
        with self._attachments.running(record.container_id, record.interface) as descriptor:
            return self._execute(verb, plugin["type"], configuration, environment, [descriptor])

    def _configuration(self, conflist: ConfList, plugin: Mapping[str, Any]) -> dict[str, Any]:
        """A plugin's own configuration: its object in the list, with the list's name and version."""
        configuration = {key: value for key, value in plugin.items() if key != "capabilities"}
        configuration |= {"cniVersion": conflist.version, "name": conflist.name}
        if plugin["type"] == OWN_PLUGIN:
            configuration.setdefault("dataDir", str(self._state_dir))
        return configuration

    def _execute(
        self,
        verb: str,
        kind: str,
        configuration: Mapping[str, Any],
        environment: Mapping[str, str],
        inherited: Sequence[int] = (),
    ) -> dict[str, Any] | None:
        program = next((path for folder in self._bin_dirs if (path := folder / kind).exists()), None)
        if program is None:
            raise CniError(
                INVALID_CONFIGURATION,
                f"there is no CNI plugin {kind}",
                f"looked in {', '.join(map(str, self._bin_dirs)) or 'no folder: none is configured'}",
            )
        surroundings = {
            **os.environ,
            **environment,
            "CNI_COMMAND": verb,
            "CNI_PATH": os.pathsep.join(map(str, self._bin_dirs)),
        }
        try:
            done = subprocess.run(
                [program],
                input=json.dumps(configuration).encode(),
                env=surroundings,
                pass_fds=inherited,
                capture_output=True,
                timeout=_PLUGIN_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise CniError(IO_FAILURE, f"the CNI plugin {kind} did not end in {_PLUGIN_SECONDS:.0f} s") from error
        except OSError as error:
            raise CniError(IO_FAILURE, f"the CNI plugin {kind} cannot be run", str(error)) from error
        return _answer(kind, done)

    @asynccontextmanager
    async def _alone(self, owner: Owner) -> AsyncIterator[None]:
        """One call at a time for an attachment, none while GC runs. A lock that nobody waits for is dropped."""
        await self._open.wait()
        lock, users = self._locks.get(owner, (asyncio.Lock(), 0))
        self._locks[owner] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            _, users = self._locks[owner]
            if users == 1:
                del self._locks[owner]
            else:
                self._locks[owner] = (lock, users - 1)


def _answer(kind: str, done: subprocess.CompletedProcess[bytes]) -> dict[str, Any] | None:
    """What an executable printed: a result, nothing, or the error object that is then raised."""
    words = done.stderr.decode(errors="replace").strip()
    try:
        answer = json.loads(done.stdout) if done.stdout.strip() else None
    except ValueError as error:
        raise CniError(IO_FAILURE, f"the CNI plugin {kind} did not answer in JSON", words) from error
    if done.returncode != 0:
        said = answer if isinstance(answer, dict) else {}
        raise CniError(
            int(said.get("code", IO_FAILURE)),
            f"the CNI plugin {kind} failed: {said.get('msg') or f'exit code {done.returncode}'}",
            str(said.get("details") or words),
        )
    return answer if isinstance(answer, dict) else None
