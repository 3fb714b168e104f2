"""Packets between hosts that are lost: dropped on the bridge, so that neither end is told.

The rules live in the bridge's own namespace, on frames that pass from one host's cable to another's. Nothing on a host
is touched, so the service proxy's rules and a cut cannot meet; all of a host counts, its pods' packets too; what stays
on the host (loopback, pods of one node) goes on. ARP passes: a lost neighbour would be *told* to senders within seconds
(EHOSTUNREACH), and the hard fault is the silent one.

A file says what is cut, and all rules are made from it, in one transaction: nothing else has rules in that namespace.
"""

import json
from collections.abc import Collection, Iterable
from dataclasses import astuple, dataclass

from lab.errors import PlanError
from lab.network import run_checked
from lab.plan import Host, Plan

ANY = "*"


@dataclass(frozen=True, order=True)
class Cut:
    """Packets from `source` to `target` are dropped: names of hosts, or ANY."""

    source: str
    target: str

    def __str__(self) -> str:
        return f"{_shown(self.source)} -> {_shown(self.target)}"


def chosen(
    plan: Plan, host: Host, *, sources: Iterable[str], targets: Iterable[str], arriving: bool, leaving: bool
) -> set[Cut]:
    """What is asked for of a host: packets from and to single peers, all that arrive, all that leave; nothing named
    means everything."""
    found = {Cut(_peer(plan, host, name), host.name) for name in sources}
    found |= {Cut(host.name, _peer(plan, host, name)) for name in targets}
    everything = not (found or arriving or leaving)
    if arriving or everything:
        found.add(Cut(ANY, host.name))
    if leaving or everything:
        found.add(Cut(host.name, ANY))
    return found


def of_host(cuts: Iterable[Cut], host: Host) -> set[Cut]:
    """Those that a host is an end of."""
    return {cut for cut in cuts if host.name in (cut.source, cut.target)}


def rules(cuts: Collection[Cut]) -> str:
    """The bridge's whole filter table, for ebtables-restore. A host's cable has the host's name there."""
    drops = (f"-A FORWARD -p ! ARP{_port('-i', cut.source)}{_port('-o', cut.target)} -j DROP" for cut in sorted(cuts))
    return "\n".join(("*filter", ":INPUT ACCEPT", ":FORWARD ACCEPT", ":OUTPUT ACCEPT", *drops, ""))


def apply(plan: Plan, cuts: Collection[Cut], *, lock: int) -> None:
    """Makes exactly these packets be dropped. `lock` is the open file by which the caller holds the lab's lock."""
    run_checked(["nsenter", f"--net={plan.switch}", "--", "ebtables-restore"], [lock], rules(cuts))


def saved(plan: Plan) -> set[Cut]:
    """What is cut."""
    try:
        return {Cut(*pair) for pair in json.loads(plan.cuts_file.read_text())}
    except FileNotFoundError:
        return set()


def to_json(cuts: Iterable[Cut]) -> str:
    return json.dumps([astuple(cut) for cut in sorted(cuts)]) + "\n"


def _peer(plan: Plan, host: Host, name: str) -> str:
    if plan.host(name) == host:
        raise PlanError(f"{name} is the host itself: its own packets to itself never leave it")
    return name


def _port(option: str, name: str) -> str:
    return "" if name == ANY else f" {option} {name}"


def _shown(name: str) -> str:
    return "anywhere" if name == ANY else name
