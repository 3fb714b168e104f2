"""A lab that can be started, taken apart program by program, and removed without a trace.

Every operation looks at what is there and does what is missing, so it may be repeated, also after one that was killed
half way. Operations on one lab run one after another, whichever process they come from.
"""

import asyncio
import fcntl
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from lab import cuts, images, leftovers, network, oci, processes, programs, registry
from lab.certificates import Authority
from lab.errors import ArchiveError, LabError
from lab.plan import DATA_ROOT, DEFAULT_NODES, REGISTRY_PORT, RUN_ROOT, Host, Plan, Role, saved

Report = Callable[[str], None]

CHECKOUT = Path(__file__).resolve().parents[1]
# A program that has not answered by then is not slow but broken; generous for a machine with one busy core.
_ANSWER_SECONDS = 60.0
_LOG_LINES_SHOWN = 12


def _silent(_: str) -> None:
    """For callers to whom progress means nothing."""


class Lab:
    """The lab of a plan, whether it runs already or not."""

    def __init__(self, plan: Plan, report: Report = _silent) -> None:
        self.plan = plan
        self._report = report

    @classmethod
    def existing(cls, name: str, report: Report = _silent) -> "Lab":
        plan = saved(name)
        if plan is None:
            raise LabError(f"there is no lab {name!r}; `podwire-lab list` shows those there are")
        return cls(plan, report)

    @classmethod
    def wanted(
        cls,
        name: str,
        nodes: int | None,
        *,
        controlplanes: int | None = None,
        etcd_members: int | None = None,
        report: Report = _silent,
    ) -> "Lab":
        """The lab of that name with so much of each: the existing one, with more nodes where it has fewer, or a new
        one. None: as many as it has."""
        kept = saved(name)
        if kept is None:
            size = DEFAULT_NODES if nodes is None else nodes
            return cls(Plan(name, size, str(CHECKOUT), _given(controlplanes, 1), _given(etcd_members, 1)), report)
        if kept.checkout != str(CHECKOUT):
            raise LabError(f"lab {name} belongs to {kept.checkout}; choose another name with --name")
        if nodes is not None and nodes < kept.nodes:
            raise LabError(f"lab {name} has {kept.nodes} nodes; to have fewer, `podwire-lab down {name}` first")
        # Their number is in every host's configuration, and in the data of etcd.
        for asked, number, what in (
            (controlplanes, kept.controlplanes, "control planes"),
            (etcd_members, kept.etcd_members, "members of etcd"),
        ):
            if asked is not None and asked != number:
                raise LabError(f"lab {name} has {number} {what}; to have {asked}, `podwire-lab down {name}` first")
        return cls(replace(kept, nodes=_given(nodes, kept.nodes)), report)

    async def up(self) -> None:
        """Starts what does not run yet, and returns when every node is ready."""
        _require_root()
        plan = self.plan
        async with self._alone() as lock:
            _replace(plan.file, plan.to_json())
            await asyncio.to_thread(self._lay_ground, lock)
            self._report(f"{len(plan.hosts)} hosts are connected")
            await self._start_all(lock)
            await self._wait_ready()
            endpoints = ", ".join(f'"unix:{socket}"' for socket in plan.api_sockets)
            _replace(plan.client_config, f"endpoints: [{endpoints}]\n")

    async def down(self) -> None:
        """Removes everything the lab and its pods have put on the machine."""
        _require_root()
        async with self._alone():
            await asyncio.to_thread(self._remove)

    async def start(self, host: Host, program: str | None = None) -> None:
        """Starts a program of a host, or the whole host, and returns when it answers."""
        async with self._alone() as lock:
            if program is not None:
                self._require_on(host)
                await self._start(host, program, lock)
            else:
                await asyncio.to_thread(network.connect_hosts, self.plan, [host], lock=lock)
                await self._start_host(host, lock)

    async def stop(self, host: Host, program: str | None = None) -> None:
        """Ends a program as its owner would (SIGTERM, then SIGKILL), or shuts the host down."""
        async with self._alone() as lock:
            for name in [program] if program is not None else reversed(host.programs):
                await asyncio.to_thread(self._stop, host, name)
            if program is None:
                await asyncio.to_thread(self._switch_off, host, lock)

    async def kill(self, host: Host, program: str | None = None) -> None:
        """SIGKILL to a program, or the host's power cut: its pods die too, and what it had in /run is gone."""
        async with self._alone() as lock:
            if program is None:
                await asyncio.to_thread(self._switch_off, host, lock)
            elif leader := processes.recorded(host.pidfile(program)):
                await asyncio.to_thread(processes.kill, [leader, *processes.group_of(leader, host.netns)])

    async def cut(self, wanted: Collection[cuts.Cut]) -> None:
        """Drops these packets from now on, of established connections too, and tells nobody."""
        async with self._alone() as lock:
            await asyncio.to_thread(self._change_cuts, cuts.saved(self.plan) | set(wanted), lock)

    async def mend(self, unwanted: Collection[cuts.Cut]) -> None:
        """Lets the packets of these cuts through again."""
        async with self._alone() as lock:
            await asyncio.to_thread(self._change_cuts, cuts.saved(self.plan) - set(unwanted), lock)

    async def load(self, file: Path) -> list[str]:
        """Puts the images of a tar file into the lab's registry. Their names."""
        try:
            with file.open("rb") as archive:
                found = oci.read_archive(archive)
        except ArchiveError as error:
            raise LabError(f"{file} cannot be loaded: {error}") from None
        await asyncio.to_thread(self._push, found)
        return [f"{name}:{tag}" for image in found for name, tag in image.names]

    def command(self, host: Host, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` on the host."""
        self._require_on(host)
        return ["nsenter", f"--net={host.netns}", "--", *argv]

    def run(self, host: Host, argv: Sequence[str], *, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
        """Runs a command on the host to its end."""
        return subprocess.run(
            self.command(host, argv),
            env=programs.environment(host),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def running(self) -> Mapping[tuple[str, str], processes.Process | None]:
        """The process of each (host, program); None where it does not run."""
        return {
            (host.name, program): processes.running(host.pidfile(program))
            for host in self.plan.hosts
            for program in host.programs
        }

    # -- what `up` is made of -------------------------------------------------------------------------------------

    def _lay_ground(self, lock: int) -> None:
        now = datetime.now(UTC)
        authority = Authority.in_folder(self.plan.pki, name=f"podwire lab {self.plan.name}", now=now)
        for host in self.plan.hosts:
            for folder in (host.run, host.logs):
                folder.mkdir(parents=True, exist_ok=True)
            group = "podwire:nodes" if host.role is Role.NODE else f"podwire:{host.role}"
            authority.issue(host.name, organization=group, addresses=[host.address], names=[host.name], now=now)
        network.prepare_machine()
        network.connect_hosts(self.plan, self.plan.hosts, lock=lock)
        if self.plan.cuts_file.exists():
            cuts.apply(self.plan, cuts.saved(self.plan), lock=lock)

    async def _start_all(self, lock: int) -> None:
        try:
            async with asyncio.TaskGroup() as owner:
                owner.create_task(self._start_registry(lock), name="registry")
                owner.create_task(self._start_controlplane(lock), name="control plane")
                for host in self.plan.node_hosts:
                    owner.create_task(self._start_host(host, lock), name=host.name)
        except ExceptionGroup as failures:
            # Not `except*`: some of Python's releases put what is raised in that into a group again.
            if failures.split((LabError, OSError))[1] is not None:
                raise
            raise LabError("\n".join(map(str, _leaves(failures)))) from None

    async def _start_registry(self, lock: int) -> None:
        built = asyncio.create_task(asyncio.to_thread(images.build_all), name="build images")
        await self._start(self.plan.registry, "registry", lock)
        await asyncio.to_thread(self._push, await built)
        self._report("the registry has alpine, busybox, nginx and httpd")

    async def _start_controlplane(self, lock: int) -> None:
        # All at once: a member of etcd answers when most of them are there.
        for hosts in (self.plan.etcd_hosts, self.plan.controlplane_hosts):
            async with asyncio.TaskGroup() as owner:
                for host in hosts:
                    owner.create_task(self._start_host(host, lock), name=host.name)
        self._report("the control plane answers")

    async def _start_host(self, host: Host, lock: int) -> None:
        for program in host.programs:
            await self._start(host, program, lock)

    async def _start(self, host: Host, name: str, lock: int) -> None:
        """Starts a program unless it runs, and waits until it answers where it listens."""
        program = programs.program(self.plan, host, name)
        process = processes.running(host.pidfile(name))
        if process is None:
            for folder in (host.run, *program.folders):
                folder.mkdir(parents=True, exist_ok=True)
            for file, text in program.files.items():
                _replace(file, text)
            process = await asyncio.to_thread(
                processes.start,
                host.netns,
                program.argv,
                environment=program.environment,
                log=host.log(name),
                pidfile=host.pidfile(name),
                lock=lock,
            )
        await self._wait_answers(host, name, program, process)

    async def _wait_answers(self, host: Host, name: str, program: programs.Program, process: processes.Process) -> None:
        deadline = time.monotonic() + _ANSWER_SECONDS
        while not await asyncio.to_thread(_answers, host, program):
            if not process.is_running():
                raise LabError(self._post_mortem(host, name, "ended"))
            if time.monotonic() > deadline:
                raise LabError(self._post_mortem(host, name, f"has not answered for {_ANSWER_SECONDS:g} s"))
            # Nobody tells when a port or socket opens.
            await asyncio.sleep(0.02)

    async def _wait_ready(self) -> None:
        """Until every node is ready, or a program that this needs ends."""
        # Here and not above: gRPC takes 0.3 s to import, which every other command does without.
        from lab.readiness import wait_nodes_ready

        wanted = {host.name for host in self.plan.node_hosts}
        ready = asyncio.create_task(wait_nodes_ready(self.plan.api_sockets, wanted), name="nodes ready")
        ended = asyncio.create_task(self._wait_any_ends(), name="a program ends")
        try:
            done, _ = await asyncio.wait({ready, ended}, timeout=_ANSWER_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if ended in done:
                host, name = ended.result()
                raise LabError(self._post_mortem(host, name, "ended"))
            if ready not in done:
                logs = ", ".join(str(host.log("agent")) for host in self.plan.node_hosts)
                raise LabError(f"not every node is ready after {_ANSWER_SECONDS:g} s; see {logs}")
            ready.result()
        finally:
            for task in (ready, ended):
                task.cancel()
            await asyncio.gather(ready, ended, return_exceptions=True)
        self._report(f"{len(wanted)} nodes are ready")

    async def _wait_any_ends(self) -> tuple[Host, str]:
        """The first program of the lab to end."""
        ended: asyncio.Future[tuple[Host, str]] = asyncio.get_running_loop().create_future()
        handles: list[int] = []
        loop = asyncio.get_running_loop()

        def tell(host: Host, name: str) -> None:
            if not ended.done():
                ended.set_result((host, name))

        try:
            for (host_name, name), process in self.running().items():
                host = self.plan.host(host_name)
                if process is None:
                    return host, name
                try:
                    handles.append(os.pidfd_open(process.pid))
                except ProcessLookupError:
                    return host, name
                loop.add_reader(handles[-1], tell, host, name)
            return await ended
        finally:
            for handle in handles:
                loop.remove_reader(handle)
                os.close(handle)

    def _post_mortem(self, host: Host, name: str, what: str) -> str:
        log = host.log(name)
        lines = log.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:] if log.exists() else []
        shown = "".join(f"\n    {line}" for line in lines)
        return f"{name} on host {self.plan.name}/{host.name} {what}; the end of {log}:{shown}"

    def _require_on(self, host: Host) -> None:
        if not network.is_on(host.netns):
            raise LabError(f"host {host.lab}/{host.name} is off; `podwire-lab start {host.lab}/{host.name}`")

    def _push(self, found: Sequence[oci.Image]) -> None:
        host = self.plan.registry
        if not network.accepts_tcp(host, REGISTRY_PORT):
            raise LabError(f"the registry is off; `podwire-lab start {self.plan.name}/{host.name}`")
        network.call_inside(host.netns, lambda: registry.push(str(host.address), REGISTRY_PORT, found))

    def _change_cuts(self, wanted: Collection[cuts.Cut], lock: int) -> None:
        if not network.is_on(self.plan.switch):
            raise LabError(f"lab {self.plan.name} is off; `podwire-lab up --name {self.plan.name}`")
        # Written down first: what a kill leaves undone, the next `up`, `cut` or `mend` does.
        _replace(self.plan.cuts_file, cuts.to_json(wanted))
        cuts.apply(self.plan, wanted, lock=lock)

    # -- what `down` is made of -----------------------------------------------------------------------------------

    def _stop(self, host: Host, name: str) -> None:
        process = processes.running(host.pidfile(name))
        if process is None:
            return
        grace = programs.program(self.plan, host, name).grace
        if not processes.terminate(process, grace):
            self._report(f"{name} on {host.name} has not ended within {grace:g} s of SIGTERM; SIGKILL")
        processes.kill([process, *processes.group_of(process, host.netns)])

    def _switch_off(self, host: Host, lock: int) -> None:
        """What a power cut leaves of a host: its disk."""
        leftovers.power_off([host], [host.run, host.data])
        leftovers.unmount_below([host.run, host.data])
        network.unplug(self.plan, host, lock=lock)
        network.disconnect([host.netns])
        leftovers.remove_cgroups([host])
        leftovers.remove_folders(host.run)

    def _remove(self) -> None:
        plan = self.plan
        folders = [plan.run, plan.data]
        plan.client_config.unlink(missing_ok=True)
        leftovers.power_off(plan.hosts, folders)
        leftovers.unmount_below(folders)
        network.disconnect([host.netns for host in plan.hosts] + [plan.switch])
        leftovers.remove_cgroups(plan.hosts)
        # The plan goes last: while anything is left, a second `down` must know what to look for.
        leftovers.remove_folders(plan.run, *(entry for entry in plan.data.iterdir() if entry.is_dir()))
        plan.file.unlink(missing_ok=True)
        leftovers.remove_folders(plan.data)
        leftovers.remove_if_empty(RUN_ROOT, RUN_ROOT.parent)
        leftovers.remove_if_empty(DATA_ROOT, DATA_ROOT.parent)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[int]:
        """Holds the lab's lock, an open file. Its folder is the lock: a file could not be removed without a race."""
        folder = self.plan.data
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                await asyncio.to_thread(fcntl.flock, handle, fcntl.LOCK_EX)
                if _is_same(handle, folder):
                    yield handle
                    return
            finally:
                os.close(handle)


def _answers(host: Host, program: programs.Program) -> bool:
    if program.port is not None:
        return network.accepts_tcp(host, program.port)
    if program.socket is not None:
        return network.accepts_unix(program.socket)
    return True


def _is_same(handle: int, folder: Path) -> bool:
    """Whether the open folder is still the one of that name: a `down` that had the lock before may have removed it."""
    try:
        named = folder.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(handle), named)


def _given(number: int | None, otherwise: int) -> int:
    return otherwise if number is None else number


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """What failed, without the task groups it failed in."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _replace(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(file.name + ".new")
    new.write_text(text)
    new.replace(file)


def _require_root() -> None:
    if os.geteuid() != 0:
        raise LabError("a lab needs root, for network namespaces and containers: run this with sudo")
