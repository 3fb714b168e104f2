"""Addresses of one network on one node: a folder with a symbolic link an address.

A link's name is the address, its target `<container id>/<interface>` says whose it is. Making a link is one system
call that fails where the name is taken and never leaves half a reservation, so that no lock is needed, between threads
or between processes, and a crash at any instruction loses nothing. The targets name no file, on purpose.

Addresses are given out in turn: the search goes on after the last one given, so that an address that was released is
the last to be used again, and what still talks to it meets nobody instead of another pod.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import NamedTuple

from cni.errors import NO_ADDRESS_LEFT, CniError

_LAST = "last"


class Owner(NamedTuple):
    """Who has an address: one interface of one container."""

    container_id: str
    interface: str


class Addresses:
    """The addresses of `subnet`, kept under `folder`. The first one is the gateway's and is never given out."""

    def __init__(self, folder: Path, subnet: IPv4Network) -> None:
        self._folder = folder
        self._taken = folder / "addresses"
        self._subnet = subnet

    @property
    def gateway(self) -> IPv4Address:
        return self._subnet.network_address + 1

    @property
    def capacity(self) -> int:
        """How many addresses pods can have: all but network, gateway and broadcast."""
        return self._subnet.num_addresses - 3

    def reserve(self, owner: Owner) -> IPv4Address:
        """An address for `owner`: the one it has, or the next free one. Raises CniError where none is left."""
        mine = self.of(owner)
        if mine is not None:
            return mine
        self._taken.mkdir(parents=True, exist_ok=True)
        for address in self._in_turn():
            try:
                (self._taken / str(address)).symlink_to(f"{owner.container_id}/{owner.interface}")
            except FileExistsError:
                continue
            self._remember(address)
            return address
        raise CniError(
            NO_ADDRESS_LEFT,
            f"no address is left in {self._subnet}",
            f"all {self.capacity} are taken; {self._taken} names their containers",
        )

    def release(self, owner: Owner) -> None:
        """Gives back whatever `owner` has."""
        for address, holder in self.reservations():
            if holder == owner:
                (self._taken / address).unlink(missing_ok=True)

    def keep_only(self, owners: Collection[Owner]) -> None:
        """Gives back the addresses of everybody else."""
        for address, holder in self.reservations():
            if holder not in owners:
                (self._taken / address).unlink(missing_ok=True)

    def of(self, owner: Owner) -> IPv4Address | None:
        """The address that `owner` has in this subnet. (It may have one in a subnet that the node had before.)"""
        for text, holder in self.reservations():
            if holder == owner and (address := IPv4Address(text)) in self._subnet:
                return address
        return None

    def reservations(self) -> Iterator[tuple[str, Owner]]:
        """Every address that is taken, and by whom."""
        try:
            names = os.listdir(self._taken)  # noqa: PTH208 - three times as quick as paths, and on the way of every ADD
        except FileNotFoundError:
            return
        for name in names:
            try:
                container_id, _, interface = os.readlink(f"{self._taken}/{name}").rpartition("/")  # noqa: PTH115
            except FileNotFoundError:
                continue  # released meanwhile
            yield name, Owner(container_id, interface)

    def _in_turn(self) -> Iterator[IPv4Address]:
        first = int(self._subnet.network_address) + 2
        start = self._last() + 1 - first
        for step in range(self.capacity):
            yield IPv4Address(first + (start + step) % self.capacity)

    def _last(self) -> int:
        """The last address given out. Its loss, or another subnet's, costs nothing but the turn."""
        try:
            last = IPv4Address((self._folder / _LAST).read_text().strip())
        except (FileNotFoundError, ValueError):
            return int(self.gateway)
        return int(last if last in self._subnet else self.gateway)

    def _remember(self, address: IPv4Address) -> None:
        (self._folder / _LAST).write_text(f"{address}\n")
