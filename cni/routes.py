"""Routes to the other nodes' pods, through those nodes' addresses; on nodes that share a layer 2 network.

Ours are the routes of protocol 117 in the main table, and no other route is ever touched. What to change is a pure
function of the routes that are there and those wanted. An interface that goes down takes routes with it, without a word
about each; when it is up again the kernel tells of the route to its own network, and `run` puts ours back.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Final, NoReturn

from cni import rtnetlink
from cni.netlink import Netlink, NetlinkError
from cni.rtnetlink import Route
from cni.threads import run_to_end

PROTOCOL: Final = 117
"""A routing protocol number that nobody has (iproute2's rt_protos; below 128 are the kernel's and routing daemons')."""

_ROUTE_EVENTS: Final = 0x40
"""RTMGRP_IPV4_ROUTE (linux/rtnetlink.h). Pods that come and go make none of these on the node."""


class RoutesError(Exception):
    """Some routes could not be set; the others are. `failures` says why, by destination."""

    def __init__(self, failures: Mapping[IPv4Network, str]) -> None:
        self.failures = dict(failures)
        super().__init__("; ".join(f"no route to {network}: {reason}" for network, reason in failures.items()))


@dataclass(frozen=True, slots=True)
class Plan:
    """What to change. A route that goes another way now is replaced in one step."""

    delete: frozenset[IPv4Network]
    add: Mapping[IPv4Network, IPv4Address]
    replace: Mapping[IPv4Network, IPv4Address]


def plan(present: Iterable[Route], wanted: Mapping[IPv4Network, IPv4Address]) -> Plan:
    """The difference between our routes that are there and those wanted."""
    ours = {route.destination: route.gateway for route in present if route.protocol == PROTOCOL}
    return Plan(
        frozenset(ours.keys() - wanted.keys()),
        {network: via for network, via in wanted.items() if network not in ours},
        {network: via for network, via in wanted.items() if network in ours and ours[network] != via},
    )


class Routes:
    """The routes of the network namespace this process is in."""

    def __init__(self) -> None:
        self._wanted: dict[IPv4Network, IPv4Address] = {}
        self._turn = asyncio.Lock()

    async def sync(self, wanted: Mapping[str, str]) -> None:
        """Makes our routes those of `wanted`: pod CIDR of another node -> that node's address.

        Raises ValueError for what is no IPv4 network or address, and RoutesError for routes the kernel refuses (their
        node is not on a network of this one, or somebody else has a route there); `run` tries those again.
        """
        self._wanted = {IPv4Network(network): IPv4Address(via) for network, via in wanted.items()}
        await self._converge()

    async def run(self) -> NoReturn:
        """Keeps the routes as interfaces go down and up, and where somebody deletes one."""
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE) as events:
            events.bind((0, _ROUTE_EVENTS))
            while True:
                await _wait_readable(loop, events)
                _drain(events)
                try:
                    await self._converge()
                except RoutesError:
                    pass  # an interface that is still down: it says so when it is up

    async def _converge(self) -> None:
        async with self._turn:
            await run_to_end(None, lambda: _apply(dict(self._wanted)))


def _apply(wanted: Mapping[IPv4Network, IPv4Address]) -> None:
    failures: dict[IPv4Network, str] = {}
    with Netlink() as kernel:
        change = plan(rtnetlink.routes(kernel, protocol=PROTOCOL), wanted)
        for network in change.delete:
            rtnetlink.delete_route(kernel, network, protocol=PROTOCOL)
        for network, via in {**change.add, **change.replace}.items():
            try:
                rtnetlink.add_route(kernel, network, via, protocol=PROTOCOL, replace=network in change.replace)
            except NetlinkError as error:
                if error.errno == errno.EEXIST:
                    failures[network] = "somebody else has a route to it"
                else:
                    failures[network] = f"the kernel refuses {via} as its gateway: {error.strerror}"
    if failures:
        raise RoutesError(failures)


async def _wait_readable(loop: asyncio.AbstractEventLoop, events: socket.socket) -> None:
    readable = asyncio.Event()
    loop.add_reader(events, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(events)


def _drain(events: socket.socket) -> None:
    """Takes what has gathered; what it says does not matter. Where some was lost, something changed as well."""
    while True:
        try:
            events.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
