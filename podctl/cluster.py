"""`podctl cluster status`: how the store is, who leads, and what to do where something is wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Final

from podctl.failures import UsageError
from podctl.session import Session
from podctl.tables import Table
from podwire import manifest, tree_codec, v1

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


async def status(session: Session, *, output: str) -> int:
    """1 where something is wrong, so that scripts can ask."""
    if output not in ("", "yaml", "json"):
        raise UsageError(f'unknown output format "{output}": yaml, json')
    found = await session.client.cluster_status()
    tree = tree_codec.to_tree(found)
    match output:
        case "yaml":
            sys.stdout.write(manifest.dump([tree]))
        case "json":
            sys.stdout.write(json.dumps(tree, indent=4, ensure_ascii=False) + "\n")
        case _:
            sys.stdout.write(describe(found))
    return 1 if any(advice(found)) else 0


def describe(found: v1.ClusterStatus) -> str:
    """Three tables and what to do, for a person."""
    store = Table(["EPOCH", "REVISION", "HISTORY SINCE"])
    since = str(found.compacted_revision) if found.compacted_revision else "<all>"
    parts = [store.render([[found.epoch, str(found.revision), "<unknown>" if found.error else since]])]
    members = Table(["MEMBER", "ID", "ROLE", "VERSION", "SIZE", "IN USE", "TERM", "INDEX", "ENDPOINT"])
    parts.append(members.render(map(_member, found.members)))
    leaders = Table(["ELECTION", "HELD BY"])
    nobody = "<unknown>" if found.error else "<nobody>"
    parts.append(leaders.render([leader.role, leader.holder or nobody] for leader in found.leaders))
    alarms = ", ".join(f"{alarm.type} on {alarm.member_name or alarm.member_id}" for alarm in found.alarms)
    parts.append(f"Alarms: {alarms or ('<unknown>' if found.error else '<none>')}\n")
    parts.append("".join(f"{wrong}\n" for wrong in advice(found)))
    return "\n".join(filter(None, parts))


def _member(member: v1.EtcdMember) -> list[str]:
    urls = ",".join(member.client_urls)
    name = member.name or "<unknown>"
    if member.error:
        return [name, member.id, "DOWN", "", "", "", "", "", urls]
    role = "leader" if member.leader else "learner" if member.learner else "follower"
    sizes = [size_text(member.db_size), size_text(member.db_size_in_use)]
    return [name, member.id, role, member.version, *sizes, str(member.raft_term), str(member.raft_index), urls]


def advice(found: v1.ClusterStatus) -> Iterator[str]:
    """What is wrong, and the next step for each."""
    if found.error:
        yield f"Store: {found.error}. Pods that run go on running meanwhile."
    for member in found.members:
        if member.error:
            where = ",".join(member.client_urls) or member.id
            yield f"Member {member.name or where} does not answer: {member.error}. Start it, or mend its network."
    alarms = {alarm.type for alarm in found.alarms}
    if "NOSPACE" in alarms:
        yield (
            "NOSPACE: etcd has reached its quota and takes no writes. Delete objects that are not needed; the elected "
            "controllers make room of it within a minute and clear the alarm. Or start etcd with a larger "
            "--quota-backend-bytes; the alarm is then cleared within five minutes."
        )
    if "CORRUPT" in alarms:
        named = ", ".join(alarm.member_name or alarm.member_id for alarm in found.alarms if alarm.type == "CORRUPT")
        yield (
            f"CORRUPT: etcd found different data on {named} and takes no writes. Nothing clears this by itself: remove "
            "that member, empty its data folder and add it again, or restore a backup if most members disagree."
        )
    for leader in found.leaders:
        if not leader.holder and not found.error:
            yield f"Nobody leads the {leader.role}: start podwire-controlplane {leader.role}, or look at its log."


def size_text(size: int) -> str:
    """`20 MiB`, as etcdctl rounds it."""
    amount = float(size)
    for unit in _UNITS:
        if amount < 1024 or unit == _UNITS[-1]:
            break
        amount /= 1024
    return f"{amount:.1f} {unit}" if amount < 10 and unit != "B" else f"{amount:.0f} {unit}"
