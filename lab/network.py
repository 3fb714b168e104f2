"""The hosts' network namespaces and the bridge between them.

The bridge has a namespace of its own, and each cable is made with both ends already where they belong, so no link of a
lab ever appears in the machine's own namespace, not for a moment.
"""

import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TypeVar

from lab.plan import NETNS_ROOT, NETWORK, SERVICE_CIDR, Host, Plan, Role

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_BRIDGE_SETTINGS = Path("/proc/sys/net/bridge")

# What a node's administrator sets in /etc/sysctl.d: pods' packets are forwarded, and those that only cross the bridge
# meet the rules of services too.
_SETTINGS = {
    Role.NODE: {"net/ipv4/ip_forward": "1", "net/bridge/bridge-nf-call-iptables": "1"},
}
# Duplicate address detection would keep every new address waiting for a second.
_SETTINGS_OF_ALL = {"net/ipv6/conf/all/accept_dad": "0", "net/ipv6/conf/default/accept_dad": "0"}


def prepare_machine() -> None:
    """Loads the kernel module whose settings the nodes need, where it is a module and not loaded yet."""
    if not _BRIDGE_SETTINGS.is_dir():
        subprocess.run(["modprobe", "br_netfilter"], capture_output=True, check=False)
    if not _BRIDGE_SETTINGS.is_dir():
        raise OSError("the kernel module br_netfilter is missing, without which services cannot work: modprobe it")


def connect_hosts(plan: Plan, hosts: Iterable[Host], *, lock: int) -> None:
    """Makes what is missing of the bridge and of the hosts' namespaces, cables, addresses and settings.

    `lock` is the open file by which the caller holds the lab's lock: the programs that this calls hold it too, so that
    nobody takes the lab apart while one of them still works for a caller that has been killed.
    """
    _make_namespace(plan.switch, lock)
    if not _has_link(plan.switch, "br0"):
        _ip(plan.switch, ["link add br0 type bridge", "link set br0 up"], lock)
    for host in hosts:
        _make_namespace(host.netns, lock)
        if not _has_link(host.netns, "eth0"):
            cable = f"link add {host.name} type veth peer name eth0 netns {host.netns.name}"
            _ip(plan.switch, [cable], lock)
        _ip(plan.switch, [f"link set {host.name} master br0 up"], lock)
        # `replace` and `up` say what should be: they change nothing where it is so.
        _ip(
            host.netns,
            [
                "link set lo up",
                f"address replace {host.address}/{NETWORK.prefixlen} dev eth0",
                "link set eth0 up",
                *_routes(plan, host),
            ],
            lock,
        )
        call_inside(host.netns, partial(_set, _SETTINGS_OF_ALL | _SETTINGS.get(host.role, {})))


def is_on(netns: Path) -> bool:
    """Whether the network namespace is there: its pin alone may be what a kill left of it."""
    try:
        return netns.stat().st_dev != netns.parent.stat().st_dev
    except FileNotFoundError:
        return False


def unplug(plan: Plan, host: Host, *, lock: int) -> None:
    """Removes the host's cable at once; with its namespace it would go too, but only when the kernel gets round to it,
    and the host could not be connected again before."""
    if is_on(plan.switch) and _has_link(plan.switch, host.name):
        _ip(plan.switch, [f"link delete {host.name}"], lock)


def disconnect(namespaces: Iterable[Path]) -> None:
    """Removes network namespaces, and with them every link, address, route and rule in them."""
    for netns in namespaces:
        if netns.exists():
            run_checked(["ip", "netns", "delete", netns.name], [])
    # `ip netns` makes the folder a mount point and leaves it: with nothing in it, it is a trace too.
    if NETNS_ROOT.exists() and not any(NETNS_ROOT.iterdir()):
        subprocess.run(["umount", NETNS_ROOT], capture_output=True, check=False)


def call_inside(netns: Path, function: Callable[[], T]) -> T:
    """The result of `function` in a network namespace: what it opens (sockets, /proc/sys/net) is that namespace's.

    Runs in a thread made for it, because a namespace is a thread's and the machine's own must not leak into it; forking
    is no way in a process with gRPC threads.
    """
    result: Future[T] = Future()

    def run() -> None:
        try:
            _enter(netns)
            result.set_result(function())
        except BaseException as error:
            result.set_exception(error)

    thread = threading.Thread(target=run, name=f"in {netns.name}")
    thread.start()
    thread.join()
    return result.result()


def accepts_tcp(host: Host, port: int) -> bool:
    """Whether something on the host accepts connections at its address."""

    def connect() -> bool:
        try:
            with socket.create_connection((str(host.address), port), timeout=1.0):
                return True
        except OSError:
            return False

    return call_inside(host.netns, connect)


def accepts_unix(path: Path) -> bool:
    """Whether something accepts connections at a unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _routes(plan: Plan, host: Host) -> list[str]:
    """The way to service addresses. A machine sends them along its default route, and a lab's hosts have none: nothing
    may leave the lab, and what tries is told so at once.
    """
    match host.role:
        case Role.CLIENT:
            return [f"route replace {SERVICE_CIDR} via {plan.node_hosts[0].address}"]
        case Role.NODE:
            # The rules of services give the packets another destination before they are sent.
            return [f"route replace {SERVICE_CIDR} dev eth0"]
        case _:
            return []


def _make_namespace(netns: Path, lock: int) -> None:
    """A pin that is no mount was left by a machine that stopped, or by a kill between the two steps of `ip netns`."""
    if not is_on(netns):
        netns.unlink(missing_ok=True)
        run_checked(["ip", "netns", "add", netns.name], [lock])


def _has_link(netns: Path, link: str) -> bool:
    return call_inside(netns, lambda: link in {name for _, name in socket.if_nameindex()})


def _ip(netns: Path, commands: list[str], lock: int) -> None:
    run_checked(["ip", "-netns", netns.name, "-batch", "-"], [lock], "\n".join(commands))


def run_checked(argv: list[str], open_files: list[int], text: str = "") -> None:
    """Runs a program that is given `text` and inherits `open_files`; OSError with its words where it fails."""
    done = subprocess.run(argv, input=text, text=True, capture_output=True, pass_fds=open_files, check=False)
    if done.returncode != 0:
        raise OSError(f"{' '.join(argv)} failed: {done.stderr.strip()}" + (f" (commands: {text!r})" if text else ""))


def _set(settings: dict[str, str]) -> None:
    for name, value in settings.items():
        file = Path("/proc/sys") / name
        if file.exists():
            file.write_text(value)


def _enter(netns: Path) -> None:
    """setns(2), which Python has from 3.12 only."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(fd, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"cannot enter {netns}: {os.strerror(number)}")
    finally:
        os.close(fd)
