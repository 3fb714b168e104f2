"""Starts, finds and ends the processes of a lab's hosts.

A host's processes outlive the command that started them. A process is known by its pid *and* its start time, so that a
number that another process has got since is never signalled; what has no pid file (shims, containers, shells of users)
is known by the network namespace it lives in, or by its cgroup.
"""

import os
import select
import signal
import subprocess
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# Writes the pid file before it becomes the program, and lets go of the lab's lock only then: a lab command that is
# killed at any instruction leaves, for the next one that gets the lock, either no process or one with a pid file. The
# pipe on stdout ends when the log takes its place: then the caller may go on.
_LAUNCH = """
lock=$1 pidfile=$2 log=$3
shift 3
read -r stat </proc/$$/stat && echo "$stat" >"$pidfile" && exec {lock}>&- >>"$log" 2>&1 && exec "$@"
"""


@dataclass(frozen=True)
class Process:
    """A process at one moment. `started` is in clock ticks since the machine's boot."""

    pid: int
    group: int
    started: int
    zombie: bool

    @classmethod
    def parse(cls, stat: str) -> "Process":
        """From a line of /proc/PID/stat; the name in it may hold blanks and parentheses (proc(5))."""
        fields = stat[stat.rindex(")") + 2 :].split()
        return cls(
            pid=int(stat.split(" ", 1)[0]), group=int(fields[2]), started=int(fields[19]), zombie=fields[0] in "ZX"
        )

    @classmethod
    def now(cls, pid: int) -> "Process | None":
        """The running process of that number."""
        try:
            process = cls.parse(Path(f"/proc/{pid}/stat").read_text())
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if process.zombie else process

    def age(self) -> float:
        """How long it has run, in seconds."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.started / os.sysconf("SC_CLK_TCK")

    def is_running(self) -> bool:
        now = Process.now(self.pid)
        return now is not None and now.started == self.started


def start(
    netns: Path, argv: Sequence[str], *, environment: Mapping[str, str], log: Path, pidfile: Path, lock: int
) -> Process:
    """Starts a program in a network namespace and a session of its own, its output appended to `log`.

    `lock` is the open file by which the caller holds the lab's lock.
    """
    launch = ["bash", "-c", _LAUNCH, "launch", str(lock), str(pidfile), str(log), *argv]
    launched = subprocess.run(
        ["nsenter", f"--net={netns}", "--", "setsid", "--fork", *launch],
        pass_fds=[lock],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environment),
        cwd="/",
        text=True,
        check=False,
    )
    process = recorded(pidfile)
    if process is None:
        raise ChildProcessError(f"{argv[0]} did not start in {netns.name}: {launched.stdout.strip()}")
    return process


def recorded(pidfile: Path) -> Process | None:
    """The process that a pid file tells of, whether or not it still runs."""
    try:
        return Process.parse(pidfile.read_text())
    except (FileNotFoundError, ValueError):
        # Nothing was started, or the machine stopped while the file was written.
        return None


def running(pidfile: Path) -> Process | None:
    process = recorded(pidfile)
    return process if process is not None and process.is_running() else None


def terminate(process: Process, grace: float) -> bool:
    """SIGTERM, then as long as `grace` seconds for it to end. Whether it ended."""
    with _handle(process) as pidfd:
        if pidfd is None:
            return True
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        return _wait_exit(pidfd, grace)


def kill(processes: Iterable[Process], grace: float = 10.0) -> None:
    """SIGKILL to all, then until they are gone; TimeoutError where the kernel does not let one go."""
    processes = list(processes)
    for process in processes:
        with _handle(process) as pidfd:
            if pidfd is not None:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    for process in processes:
        if not wait_exit(process, grace):
            raise TimeoutError(f"process {process.pid} does not end, {grace:g} s after SIGKILL")


def wait_exit(process: Process, seconds: float = 10.0) -> bool:
    """Waits for a process to end. Whether it did."""
    with _handle(process) as pidfd:
        return pidfd is None or _wait_exit(pidfd, seconds)


def group_of(leader: Process, netns: Path) -> list[Process]:
    """A program and its children, also where the program itself is gone by now; not containerd's shims, which have
    groups of their own to outlive it.

    Only in its network namespace: a group's number is a pid, and may have become another's.
    """
    return [process for process in inhabitants([netns]) if process.group == leader.pid]


def inhabitants(namespaces: Collection[Path]) -> list[Process]:
    """Every process in one of the network namespaces, except this one."""
    wanted = {(stat.st_dev, stat.st_ino) for stat in (path.stat() for path in namespaces if path.exists())}
    found = []
    for pid in _pids(Path("/proc")):
        try:
            stat = Path(f"/proc/{pid}/ns/net").stat()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            # It has ended, or it is one that not even root may look into: none that a lab has started.
            continue
        if (stat.st_dev, stat.st_ino) in wanted and pid != os.getpid() and (process := Process.now(pid)) is not None:
            found.append(process)
    return found


def members(cgroups: Iterable[Path]) -> list[Process]:
    """Every process of the cgroups."""
    pids: set[int] = set()
    for cgroup in cgroups:
        try:
            pids.update(int(line) for line in (cgroup / "cgroup.procs").read_text().split())
        except FileNotFoundError:
            continue
    return [process for pid in pids if (process := Process.now(pid)) is not None]


def _pids(proc: Path) -> Iterator[int]:
    return (int(entry.name) for entry in os.scandir(proc) if entry.name.isdigit())


@contextmanager
def _handle(process: Process) -> Iterator[int | None]:
    """A pidfd of exactly this process: opened first and compared then, so it cannot be another's. None: it is gone."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield pidfd if process.is_running() else None
    finally:
        os.close(pidfd)


def _wait_exit(pidfd: int, seconds: float) -> bool:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(seconds * 1000))
