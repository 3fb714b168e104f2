"""What the control plane's processes and nodes may do wrong: die, freeze, come back, be silent."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Collection
from pathlib import Path

import pytest

from controlplane import conditions
from controlplane.store.etcd import Etcd
from podwire import errors, v1
from podwire.client import Client, Fence
from tests.integration.controllers.manifests import deployment, pod, service
from tests.integration.controllers.observing import watching
from tests.integration.controllers.processes import ControlPlane, Role, elected
from tests.integration.controllers.simulated_agent import SimulatedAgent
from tests.integration.controlplane.etcd_server import EtcdServer
from tests.integration.controlplane.network import eventually, wire_to


def bound(pods: Collection[v1.Pod]) -> list[v1.Pod]:
    return [one for one in pods if one.spec.node_name]


def ready_addresses(slices: Collection[v1.EndpointSlice]) -> int:
    return sum(endpoint.conditions.ready for one in slices for endpoint in one.endpoints)


@pytest.mark.usefixtures("nodes")
async def test_scheduler_and_controllers_killed_again_and_again_still_come_to_exactly_what_was_asked_for(
    client: Client, control_plane: ControlPlane
) -> None:
    await client.services.create(service())
    await client.deployments.create(deployment(2))
    async with watching(client.pods) as pods, watching(client.endpoint_slices) as slices:
        for round_number, replicas in enumerate((30, 5, 40)):
            image = f"web:{round_number}"
            seen = len(pods.objects)
            await client.deployments.update(deployment(replicas, image))
            # In the middle of it: when the first new pods have come or gone.
            await pods.until(lambda shown, seen=seen: abs(len(shown) - seen) >= 2)  # type: ignore[misc]
            for role in (control_plane.scheduler, control_plane.controllers):
                await role.kill()
                await role.start()
            await pods.until(
                lambda shown, replicas=replicas, image=image: (  # type: ignore[misc]
                    len(bound(shown)) == len(shown) == replicas
                    and {one.spec.containers[0].image for one in shown} == {image}
                ),
                timeout=60,
            )
            await slices.until(lambda shown, replicas=replicas: ready_addresses(shown) == replicas)  # type: ignore[misc]
    assert "reconcile broke" not in control_plane.controllers.log


@pytest.mark.usefixtures("nodes")
async def test_a_frozen_leader_is_replaced_and_writes_nothing_when_it_comes_to(
    client: Client, control_plane: ControlPlane
) -> None:
    await client.pods.create(pod("first"))
    async with watching(client.pods) as pods:
        await pods.until(lambda shown: len(bound(shown)) == 1)
        with tempfile.TemporaryDirectory(prefix="podwire-") as folder:
            second = Role("scheduler", control_plane.etcd_url, Path(folder), socket=control_plane.api.socket)
            await second.start()
            try:
                control_plane.scheduler.freeze()
                await client.pods.create(pod("second"))
                await pods.until(lambda shown: len(bound(shown)) == 2)
                control_plane.scheduler.thaw()
                await client.pods.create(pod("third"))
                await pods.until(lambda shown: len(bound(shown)) == 3)
                assert second.log.count("elected") == 1
                # It noticed, gave up what it knew, and is a candidate like any other.
                await second.kill()
                await client.pods.create(pod("fourth"))
                await pods.until(lambda shown: len(bound(shown)) == 4)
                assert control_plane.scheduler.log.count("term over") == 1
                assert control_plane.scheduler.log.count("candidate=") == 2
            finally:
                control_plane.scheduler.thaw()
                await second.kill()


@pytest.mark.usefixtures("nodes")
async def test_a_leader_that_is_cut_off_from_etcd_gives_up_in_time_and_campaigns_when_it_is_back(
    client: Client, control_plane: ControlPlane
) -> None:
    await control_plane.scheduler.kill(signal.SIGTERM)
    async with (
        wire_to(control_plane.etcd_url) as wire,
        Etcd.connect([control_plane.etcd_url]) as etcd,
        watching(client.pods) as pods,
    ):
        with (
            tempfile.TemporaryDirectory(prefix="podwire-") as one,
            tempfile.TemporaryDirectory(prefix="podwire-") as two,
        ):
            first = Role("scheduler", wire.url, Path(one), socket=control_plane.api.socket)
            second = Role("scheduler", control_plane.etcd_url, Path(two), socket=control_plane.api.socket)
            try:
                await first.start()
                before = await elected(etcd, "scheduler")
                await second.start()
                await eventually(lambda: "waiting for an election" in second.log)
                wire.cut()
                await eventually(lambda: "elected candidate=" in second.log)
                await eventually(lambda: "term over" in first.log)
                await client.pods.create(pod("first"))
                await pods.until(lambda shown: len(bound(shown)) == 1)
                assert (await elected(etcd, "scheduler")).value != before.value
                wire.mend()
                await second.kill()
                await client.pods.create(pod("second"))
                await pods.until(lambda shown: len(bound(shown)) == 2)
                assert (await elected(etcd, "scheduler")).value == before.value
            finally:
                await first.kill()
                await second.kill()


@pytest.mark.usefixtures("control_plane")
async def test_a_write_that_names_a_lost_election_is_refused(client: Client, control_plane: ControlPlane) -> None:
    async with Etcd.connect([control_plane.etcd_url]) as etcd:
        holder = await elected(etcd, "controllers")
    current = Fence(holder.key.decode(), holder.create_revision)
    former = Fence(holder.key.decode(), holder.create_revision - 1)

    async with Client.connect(control_plane.endpoint, fence=current) as leader:
        await leader.pods.create(pod("timely"))
        await leader.pods.delete("timely", namespace="default")
    async with Client.connect(control_plane.endpoint, fence=former) as late:
        with pytest.raises(errors.Fenced):
            await late.pods.create(pod("late"))
    with pytest.raises(errors.NotFound):
        await client.pods.get("late", namespace="default")


async def test_a_silent_node_takes_no_traffic_and_no_pods_until_its_agent_is_back(client: Client) -> None:
    agents = {name: SimulatedAgent(client, name) for name in ("node1", "node2")}
    tasks = {name: asyncio.create_task(agent.run()) for name, agent in agents.items()}
    for agent in agents.values():
        await asyncio.wait_for(agent.has_session.wait(), 20)
    await client.services.create(service())
    await client.deployments.create(deployment(2))
    async with (
        watching(client.endpoint_slices) as slices,
        watching(client.nodes) as nodes,
        watching(client.pods) as pods,
    ):
        await slices.until(lambda shown: ready_addresses(shown) == 2)
        tasks["node2"].cancel()
        await asyncio.wait([tasks["node2"]])
        # The lease lives for 5 s, and in the first 10 s of its term the leader believes every node.
        await nodes.until(lambda shown: readiness(shown) == {"node1": "True", "node2": "Unknown"})
        await slices.until(lambda shown: ready_addresses(shown) == 1)
        await client.deployments.update(deployment(6))
        await pods.until(lambda shown: len(bound(shown)) == 6)
        assert [one.spec.node_name for one in pods.objects].count("node2") == 1

        back = SimulatedAgent(client, "node2")
        tasks["node2"] = asyncio.create_task(back.run())
        await nodes.until(lambda shown: readiness(shown) == {"node1": "True", "node2": "True"})
        await slices.until(lambda shown: ready_addresses(shown) == 6)
    for task in tasks.values():
        task.cancel()
    await asyncio.wait(tasks.values())


def readiness(nodes: Collection[v1.Node]) -> dict[str, str]:
    found = {}
    for node in nodes:
        condition = conditions.find(node.status.conditions, "Ready")
        found[node.metadata.name] = condition.status if condition is not None else ""
    return found


@pytest.mark.usefixtures("nodes")
async def test_an_api_that_was_away_longer_than_every_lease_marks_no_node(
    client: Client, control_plane: ControlPlane
) -> None:
    async with watching(client.nodes) as nodes:
        await nodes.until(lambda shown: readiness(shown) == {"node1": "True", "node2": "True"})
        seen: list[dict[str, str]] = []
        nodes.each_time(lambda shown: seen.append(readiness(shown)))
        await control_plane.api.kill()
        await asyncio.sleep(8)  # The leases live for 5 s; their end is what this waits for.
        await control_plane.api.start()
        await client.pods.create(pod("after"))
        async with watching(client.pods) as pods:
            await pods.until(lambda shown: len(bound(shown)) == 1)
            await pods.until(lambda shown: [one.status.phase for one in shown] == ["Running"])
    assert all(set(states.values()) == {"True"} for states in seen)


@pytest.mark.usefixtures("nodes")
async def test_an_etcd_that_was_away_longer_than_every_lease_marks_no_node_and_work_goes_on(
    client: Client, own_etcd_server: EtcdServer
) -> None:
    await client.deployments.create(deployment(2))
    async with watching(client.nodes) as nodes, watching(client.pods) as pods:
        await pods.until(lambda shown: len(bound(shown)) == 2)
        seen: list[dict[str, str]] = []
        nodes.each_time(lambda shown: seen.append(readiness(shown)))
        await own_etcd_server.kill()
        await asyncio.sleep(8)  # The leases live for 3 and 5 s; their end is what this waits for.
        await own_etcd_server.start()
        await updated(client, deployment(4))
        await pods.until(lambda shown: len(bound(shown)) == 4)
        await pods.until(lambda shown: {one.status.phase for one in shown} == {"Running"})
    assert all(set(states.values()) == {"True"} for states in seen)


async def updated(client: Client, wanted: v1.Deployment) -> None:
    """Until the API has etcd again."""
    async with asyncio.timeout(20):
        while True:
            try:
                await client.deployments.update(wanted)
                return
            except (errors.Unavailable, errors.Timeout):
                await asyncio.sleep(0.1)


async def test_a_leader_that_is_asked_to_stop_resigns(
    control_plane: ControlPlane,
) -> None:
    async with Etcd.connect([control_plane.etcd_url]) as etcd:
        held = await elected(etcd, "scheduler")
        assert await control_plane.scheduler.kill(signal.SIGTERM) == 0
        assert await etcd.get(held.key) is None
