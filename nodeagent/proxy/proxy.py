"""The service proxy of a node: keeps the kernel's rules equal to the services and endpoint slices.

Event driven: what changed is applied at once when nothing is being applied, else together with what gathers meanwhile.
Rules are computed and applied in a thread. Whatever goes wrong ends in one recovery (see tables.py), with back-off.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, Protocol, TypeVar

import structlog

from cni import iptables
from cni.errors import CniError
from cni.iptables import Iptables, IptablesError, Kind
from cni.threads import run_to_end
from nodeagent.proxy import conntrack, sysctls
from nodeagent.proxy.endpoints import Target
from nodeagent.proxy.family import IPV4, Family
from nodeagent.proxy.foreign import ForeignChanges
from nodeagent.proxy.rules import NOTHING, Facts, Frontend, Rules, frontends, service_rules
from nodeagent.proxy.tables import Tables
from podwire import v1
from podwire.backoff import Backoff
from podwire.keys import join_key

log = structlog.get_logger(__name__)

_SERVICE_NAME: Final = "kubernetes.io/service-name"
_BY_SERVICE: Final = "service"
_FIRST_RETRY_SECONDS: Final = 0.1
_LONGEST_RETRY_SECONDS: Final = 5.0

T = TypeVar("T")


class Picture(Protocol[T]):
    """What the proxy needs of a `podwire.client.Informer`."""

    @property
    def resource_version(self) -> str: ...
    def get(self, key: str) -> T | None: ...
    def keys(self) -> Collection[str]: ...
    def by_index(self, name: str, value: str) -> list[T]: ...
    def add_index(self, name: str, values_of: Callable[[T], Iterable[str]]) -> None: ...
    def add_handler(self, handler: Callable[[str, T | None, T | None], None]) -> None: ...
    async def wait_synced(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """`pod_network` is the network of all nodes' pods. `kind` is None to use the kind of iptables that the host uses.
    `xtables_lock` is for nodes that share a file system. Every `check_seconds` the proxy looks whether its rules are
    still led to: with nftables it hears of that at once, so the look is for the older tables."""

    node_name: str
    pod_network: str
    xtables_lock: Path | None = None
    kind: Kind | None = None
    check_seconds: float = 30.0
    mark: int = 0x4000
    family: Family = IPV4


class Proxy:
    """`on_flush` is awaited when somebody deleted rules of ours: they have probably deleted the pod network's too. It
    may raise CniError, and is then tried again."""

    def __init__(self, settings: ProxySettings, *, on_flush: Callable[[], Awaitable[object]] | None = None) -> None:
        self._settings = settings
        self._facts = Facts(settings.node_name, settings.pod_network, settings.mark, settings.family)
        self._on_flush = on_flush
        self._tables: Tables | None = None
        self._kernel = asyncio.Lock()
        self._changed: set[str] = set()
        self._wake = asyncio.Event()
        self._read_again = True
        self._applying = False
        self._udp: dict[str, frozenset[Frontend]] = {}
        self._slices: Picture[v1.EndpointSlice] | None = None
        self._revision = 0
        self._progress = asyncio.Condition()

    @property
    def last_applied_revision(self) -> int:
        """Every change of endpoint slices up to this revision is in the kernel; 0 before the first."""
        if self._slices is not None and not (self._changed or self._read_again or self._applying):
            return _revision(self._slices)
        return self._revision

    async def wait_applied(self, revision: int) -> None:
        """Returns when a change of endpoint slices at `revision` is in the kernel."""
        async with self._progress:
            await self._progress.wait_for(lambda: self.last_applied_revision >= revision)

    async def run(self, services: Picture[v1.Service], slices: Picture[v1.EndpointSlice]) -> NoReturn:
        """Keeps the rules until cancelled; they stay when it ends. Raises SysctlError and IptablesError where this
        host cannot have them at all."""
        await run_to_end(None, sysctls.ensure)
        tables = await self._prepared()
        slices.add_index(_BY_SERVICE, _services_of)
        services.add_handler(lambda key, old, new: self._note({key}))
        slices.add_handler(lambda key, old, new: self._note({*_services_of(old), *_services_of(new)}))
        await services.wait_synced()
        await slices.wait_synced()
        self._slices = slices
        with ForeignChanges(self._settings.family) as foreign:
            async with asyncio.TaskGroup() as owner:
                owner.create_task(self._apply_changes(tables, services, slices, foreign), name="proxy rules")
                owner.create_task(self._look_now_and_then(tables, foreign), name="proxy check")
                owner.create_task(self._hear_of_deletions(foreign), name="proxy events")
        raise AssertionError("the proxy's loops have no end")

    async def remove(self) -> None:
        """Takes every rule and chain of the proxy out of the kernel: for nodes that leave the cluster."""
        tables = await self._prepared()
        async with self._kernel:
            self._read_again = True
            await run_to_end(None, tables.remove)

    async def _prepared(self) -> Tables:
        if self._tables is None:
            settings = self._settings
            program = settings.family.program
            if settings.kind is None:
                found = await run_to_end(None, lambda: iptables.detect(settings.xtables_lock))
                tool = found._replace(program=program)
            else:
                tool = Iptables(settings.kind, settings.xtables_lock, program)
            log.info("proxy uses iptables", kind=tool.kind, program=program)
            self._tables = Tables(tool, self._facts)
        return self._tables

    def _note(self, keys: Iterable[str]) -> None:
        self._changed.update(keys)
        if self._changed:
            self._wake.set()

    async def _apply_changes(
        self,
        tables: Tables,
        services: Picture[v1.Service],
        slices: Picture[v1.EndpointSlice],
        foreign: ForeignChanges,
    ) -> NoReturn:
        backoff = Backoff(_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS)
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._apply_once(tables, services, slices, foreign)
            except IptablesError as error:
                self._read_again = True
                self._wake.set()
                delay = backoff.next()
                log.warning("service rules not applied", error=str(error), retry_seconds=round(delay, 1))
                await asyncio.sleep(delay)
            else:
                backoff.reset()

    async def _apply_once(
        self,
        tables: Tables,
        services: Picture[v1.Service],
        slices: Picture[v1.EndpointSlice],
        foreign: ForeignChanges,
    ) -> None:
        async with self._kernel:
            started = time.monotonic()
            everything = self._read_again
            keys = set(services.keys()) if everything else self._changed
            gone_too = keys | self._udp.keys() if everything else keys
            self._changed = set()
            self._read_again = False
            revision = _revision(slices)
            inputs = {key: (services.get(key), slices.by_index(_BY_SERVICE, key)) for key in gone_too}
            self._applying = True
            foreign.ignore()
            try:
                changed = await run_to_end(None, lambda: self._apply(tables, inputs, everything))
            finally:
                foreign.attend()
                self._applying = False
            self._revision = revision
        async with self._progress:
            self._progress.notify_all()
        if changed:
            took = round((time.monotonic() - started) * 1000)
            log.info("service rules applied", services=changed, all=everything, revision=revision, took_ms=took)

    def _apply(
        self,
        tables: Tables,
        inputs: Mapping[str, tuple[v1.Service | None, Sequence[v1.EndpointSlice]]],
        everything: bool,
    ) -> int:
        """In a thread: the rules of these services into the kernel, and the stale UDP entries out of it."""
        wanted: dict[str, Rules] = {}
        udp: dict[Frontend, frozenset[Target]] = {}
        now: dict[str, frozenset[Frontend]] = {}
        for key, (service, slices) in inputs.items():
            udp.update({old: udp.get(old, frozenset()) for old in self._udp.get(key, ())})
            if service is None:
                wanted[key] = NOTHING
                continue
            wanted[key] = service_rules(service, slices, self._facts)
            leading = {
                at: targets for at, targets in frontends(service, slices, self._facts).items() if at.protocol == "UDP"
            }
            udp.update(leading)
            now[key] = frozenset(leading)
        count = tables.replace(wanted) if everything else tables.apply(wanted)
        if udp and not self._forget_stale(udp):
            return count  # the next change looks at these entries again
        for key in inputs:
            if now.get(key):
                self._udp[key] = now[key]
            else:
                self._udp.pop(key, None)
        return count

    def _forget_stale(self, udp: Mapping[Frontend, frozenset[Target]]) -> bool:
        try:
            count = conntrack.forget_stale(udp, self._settings.family)
        except OSError as error:
            log.warning("stale UDP entries not deleted", error=str(error))
            return False
        if count:
            log.info("stale UDP entries deleted", count=count)
        return True

    async def _look_now_and_then(self, tables: Tables, foreign: ForeignChanges) -> NoReturn:
        while True:
            await asyncio.sleep(self._settings.check_seconds)
            async with self._kernel:
                intact = await run_to_end(None, tables.is_intact)
            if not intact:
                foreign.noticed.set()

    async def _hear_of_deletions(self, foreign: ForeignChanges) -> NoReturn:
        while True:
            await foreign.noticed.wait()
            foreign.noticed.clear()
            log.warning("somebody deleted service rules; putting them back")
            self._read_again = True
            self._wake.set()
            if self._on_flush is not None:
                await self._repair_network(self._on_flush)

    async def _repair_network(self, repair: Callable[[], Awaitable[object]]) -> None:
        backoff = Backoff(_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS)
        while True:
            try:
                await repair()
                return
            except CniError as error:
                log.warning("pod network not repaired", error=str(error))
                await asyncio.sleep(backoff.next())


def _services_of(piece: v1.EndpointSlice | None) -> tuple[str, ...]:
    """The key of the service that a slice belongs to."""
    name = piece.metadata.labels.get(_SERVICE_NAME) if piece is not None else None
    return (join_key(piece.metadata.namespace, name),) if piece is not None and name else ()


def _revision(slices: Picture[v1.EndpointSlice]) -> int:
    return int(slices.resource_version or 0)
