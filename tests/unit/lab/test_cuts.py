import pytest

from lab import cuts
from lab.cuts import ANY, Cut
from lab.errors import PlanError
from lab.plan import Plan

PLAN = Plan("lab", 2, "/checkout", controlplanes=2, etcd_members=3)
HOST = PLAN.host("etcd2")


def chosen(*, sources: tuple[str, ...] = (), targets: tuple[str, ...] = (), **more: bool) -> set[Cut]:
    directions = {"arriving": False, "leaving": False} | more
    return cuts.chosen(PLAN, HOST, sources=sources, targets=targets, **directions)


def test_a_host_without_more_is_cut_both_ways() -> None:
    assert chosen() == {Cut(ANY, "etcd2"), Cut("etcd2", ANY)}


def test_directions_and_peers_name_exactly_their_packets() -> None:
    assert chosen(arriving=True) == {Cut(ANY, "etcd2")}
    assert chosen(leaving=True) == {Cut("etcd2", ANY)}
    assert chosen(sources=("etcd1",), targets=("etcd3", "node1")) == {
        Cut("etcd1", "etcd2"),
        Cut("etcd2", "etcd3"),
        Cut("etcd2", "node1"),
    }


def test_a_host_is_mended_of_every_cut_that_it_is_an_end_of() -> None:
    others = {Cut("etcd1", "etcd3"), Cut(ANY, "node1")}
    own = {Cut("etcd1", "etcd2"), Cut(ANY, "etcd2"), Cut("etcd2", ANY)}
    assert cuts.of_host(own | others, HOST) == own


@pytest.mark.parametrize(("peer", "message"), [("node9", "has no host 'node9'"), ("etcd2", "is the host itself")])
def test_a_peer_that_is_none_is_refused(peer: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        chosen(sources=(peer,))


def test_what_is_not_cut_passes_and_so_does_arp() -> None:
    table = cuts.rules({Cut("etcd1", "etcd2"), Cut(ANY, "node1")}).splitlines()
    assert [line for line in table if line.startswith("-A")] == [
        "-A FORWARD -p ! ARP -o node1 -j DROP",
        "-A FORWARD -p ! ARP -i etcd1 -o etcd2 -j DROP",
    ]
    assert ":FORWARD ACCEPT" in table
