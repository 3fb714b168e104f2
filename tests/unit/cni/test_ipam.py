"""Addresses: in turn, one for each owner, never two owners for one."""

from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from cni.errors import NO_ADDRESS_LEFT, CniError
from cni.ipam import Addresses, Owner

SUBNET = IPv4Network("10.244.1.0/29")  # five addresses for pods: .2 to .6


def addresses(folder: Path, subnet: IPv4Network = SUBNET) -> Addresses:
    return Addresses(folder, subnet)


def owner(name: str) -> Owner:
    return Owner(name, "eth0")


def test_the_first_address_is_the_gateways_and_the_second_the_first_pods(tmp_path: Path) -> None:
    assert addresses(tmp_path).gateway == IPv4Address("10.244.1.1")
    assert addresses(tmp_path).reserve(owner("a")) == IPv4Address("10.244.1.2")


def test_who_asks_again_gets_the_same_address(tmp_path: Path) -> None:
    first = addresses(tmp_path).reserve(owner("a"))
    addresses(tmp_path).reserve(owner("b"))
    assert addresses(tmp_path).reserve(owner("a")) == first


def test_interfaces_of_one_container_have_addresses_of_their_own(tmp_path: Path) -> None:
    assert addresses(tmp_path).reserve(Owner("a", "eth0")) != addresses(tmp_path).reserve(Owner("a", "eth1"))


def test_a_released_address_is_the_last_to_be_used_again(tmp_path: Path) -> None:
    given = addresses(tmp_path)
    first = given.reserve(owner("a"))
    given.release(owner("a"))
    later = [given.reserve(owner(name)) for name in "bcdef"]
    assert later[-1] == first
    assert len(set(later)) == 5


def test_a_full_network_is_an_error_that_names_it_until_an_address_is_released(tmp_path: Path) -> None:
    given = addresses(tmp_path)
    for name in "abcde":
        given.reserve(owner(name))
    with pytest.raises(CniError, match=r"no address is left in 10\.244\.1\.0/29") as caught:
        given.reserve(owner("f"))
    assert caught.value.code == NO_ADDRESS_LEFT
    given.release(owner("c"))
    assert given.reserve(owner("f")) == IPv4Address("10.244.1.4")


def test_releasing_what_nobody_has_is_no_error(tmp_path: Path) -> None:
    addresses(tmp_path).release(owner("a"))


def test_everybody_but_those_to_keep_loses_the_address(tmp_path: Path) -> None:
    given = addresses(tmp_path)
    for name in "abc":
        given.reserve(owner(name))
    given.keep_only({owner("b")})
    assert list(given.reservations()) == [("10.244.1.3", owner("b"))]


def test_a_lost_or_broken_note_of_the_last_address_costs_only_the_turn(tmp_path: Path) -> None:
    given = addresses(tmp_path)
    given.reserve(owner("a"))
    (tmp_path / "last").write_text("")
    assert given.reserve(owner("b")) == IPv4Address("10.244.1.3")


def test_an_address_of_the_subnet_that_the_node_had_before_is_released_but_not_used(tmp_path: Path) -> None:
    addresses(tmp_path).reserve(owner("a"))
    now = addresses(tmp_path, IPv4Network("10.244.2.0/24"))
    assert now.reserve(owner("a")) == IPv4Address("10.244.2.2")
    now.release(owner("a"))
    assert list(now.reservations()) == []


def test_many_at_once_get_different_addresses(tmp_path: Path) -> None:
    subnet = IPv4Network("10.244.1.0/24")
    with ThreadPoolExecutor(8) as threads:
        given = list(threads.map(lambda n: addresses(tmp_path, subnet).reserve(owner(f"pod{n}")), range(200)))
    assert len(set(given)) == 200
