"""Hosts whose packets are lost: what is cut hangs, all else goes on, and `mend` leaves nothing."""

import socket
import time
from collections.abc import AsyncIterator

import pytest

from lab import cuts, network
from lab.lab import Lab
from lab.plan import API_PORT, ETCD_PORT, Host
from tests.integration.lab.test_commands import podwire_lab

pytestmark = pytest.mark.root

PATIENCE = 0.7
"""Seconds until an attempt counts as hanging; what is answered is answered in milliseconds, with a resend in 0.2 s."""


@pytest.fixture
async def mended(lab: Lab) -> AsyncIterator[Lab]:
    yield lab
    await lab.mend(cuts.saved(lab.plan))


def attempt(source: Host, target: Host, port: int) -> str:
    """What becomes of a connection from host to host."""

    def connect() -> str:
        began = time.monotonic()
        try:
            socket.create_connection((str(target.address), port), timeout=PATIENCE).close()
        except TimeoutError:
            return "hangs" if time.monotonic() - began >= PATIENCE else "is told"
        except OSError:
            return "is told"
        return "works"

    return network.call_inside(source.netns, connect)


@pytest.mark.parametrize(
    ("options", "node_to_control_plane", "client_to_control_plane", "etcd_is_reached"),
    [
        ([], "hangs", "hangs", "hangs"),
        (["--in"], "hangs", "hangs", "hangs"),
        (["--out"], "hangs", "hangs", "hangs"),
        (["--from", "node1"], "hangs", "works", "works"),
        (["--to", "node1"], "hangs", "works", "works"),
        (["--to", "etcd"], "works", "works", "hangs"),
    ],
)
async def test_a_cut_drops_what_it_names_and_nothing_else(
    mended: Lab, options: list[str], node_to_control_plane: str, client_to_control_plane: str, etcd_is_reached: str
) -> None:
    plan = mended.plan
    node, here = plan.node_hosts[0], plan.controlplane

    def results() -> list[str]:
        return [
            attempt(node, here, API_PORT),
            attempt(plan.client, here, API_PORT),
            attempt(here, plan.etcd, ETCD_PORT),
            attempt(here, here, API_PORT),
        ]

    for _ in range(2):  # the second changes nothing
        assert podwire_lab("cut", f"{plan.name}/controlplane", *options).returncode == 0
    assert results() == [node_to_control_plane, client_to_control_plane, etcd_is_reached, "works"]
    for _ in range(2):
        assert podwire_lab("mend", f"{plan.name}/controlplane", *options).returncode == 0
    assert results() == ["works"] * 4


async def test_an_established_connection_is_cut_too_and_goes_on_after(mended: Lab) -> None:
    plan = mended.plan
    listener = network.call_inside(plan.client.netns, lambda: socket.create_server((str(plan.client.address), 0)))
    with listener:
        node = plan.node_hosts[0]
        near = network.call_inside(node.netns, lambda: socket.create_connection(listener.getsockname(), timeout=20))
        far = listener.accept()[0]
    with near, far:
        far.settimeout(PATIENCE)
        podwire_lab("cut", f"{plan.name}/client", "--from", "node1")
        near.sendall(b"x")
        with pytest.raises(TimeoutError):
            far.recv(1)
        podwire_lab("mend", f"{plan.name}/client")
        far.settimeout(20)
        assert far.recv(1) == b"x"


async def test_a_cut_is_shown_outlives_its_host_and_is_undone_in_parts(mended: Lab) -> None:
    plan = mended.plan
    podwire_lab("cut", f"{plan.name}/client")
    podwire_lab("cut", f"{plan.name}/node1", "--to", "etcd")

    def shown() -> list[str]:
        lines = podwire_lab("status", plan.name).stdout.splitlines()
        return [line.removeprefix("cut: ") for line in lines if line.startswith("cut: ")]

    assert shown() == ["anywhere -> client", "client -> anywhere", "node1 -> etcd"]
    await mended.kill(plan.client)
    await mended.start(plan.client)
    assert attempt(plan.client, plan.controlplane, API_PORT) == "hangs"
    podwire_lab("mend", f"{plan.name}/client", "--in")
    assert shown() == ["client -> anywhere", "node1 -> etcd"]
    podwire_lab("mend", f"{plan.name}/client")
    podwire_lab("mend", f"{plan.name}/etcd")
    assert shown() == []
