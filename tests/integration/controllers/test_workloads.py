"""From a deployment to endpoints, on real processes: what users see when everything is well."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from controlplane import conditions
from podwire import errors, v1
from podwire.client import Client
from tests.integration.controllers.manifests import deployment, pod, service
from tests.integration.controllers.observing import watching
from tests.integration.controllers.simulated_agent import SimulatedAgent

pytestmark = pytest.mark.usefixtures("nodes")


def ready(pods: Collection[v1.Pod]) -> list[v1.Pod]:
    return [
        one
        for one in pods
        if conditions.is_true(one.status.conditions, "Ready") and not one.metadata.HasField("deletion_timestamp")
    ]


def images(pods: Collection[v1.Pod]) -> list[str]:
    return sorted(one.spec.containers[0].image for one in pods)


def addresses(slices: Collection[v1.EndpointSlice], *, only_ready: bool = True) -> set[str]:
    return {
        endpoint.addresses[0]
        for one in slices
        for endpoint in one.endpoints
        if endpoint.conditions.ready or not only_ready
    }


async def test_a_deployment_becomes_pods_on_all_nodes_and_endpoints_of_its_service(client: Client) -> None:
    await client.services.create(service())
    await client.deployments.create(deployment(4))

    async with (
        watching(client.pods) as pods,
        watching(client.endpoint_slices) as slices,
        watching(client.deployments) as deployments,
    ):
        running = await pods.until(lambda shown: len(ready(shown)) == 4)
        await slices.until(lambda shown: addresses(shown) == {one.status.pod_ip for one in running})
        (web,) = await deployments.until(lambda shown: any(one.status.available_replicas == 4 for one in shown))
        await deployments.until(
            lambda shown: any(
                condition.reason == "NewReplicaSetAvailable" for one in shown for condition in one.status.conditions
            )
        )

    assert sorted(one.spec.node_name for one in running) == ["node1", "node1", "node2", "node2"]
    assert all(conditions.is_true(one.status.conditions, "PodScheduled") for one in running)
    assert web.metadata.name == "web"


async def test_a_new_template_replaces_the_pods_and_never_leaves_fewer_ready_than_asked_for(client: Client) -> None:
    await client.deployments.create(deployment(3))
    async with watching(client.pods) as pods, watching(client.replica_sets) as sets:
        await pods.until(lambda shown: len(ready(shown)) == 3)
        least: list[int] = []
        most: list[int] = []

        def count(shown: Collection[v1.Pod]) -> None:
            least.append(len(ready(shown)))
            most.append(len([one for one in shown if not one.metadata.HasField("deletion_timestamp")]))

        pods.each_time(count)
        await client.deployments.update(deployment(3, "web:2"))

        await pods.until(lambda shown: images(shown) == ["web:2"] * 3 and len(ready(shown)) == 3)
        await sets.until(lambda shown: sorted(one.spec.replicas for one in shown) == [0, 3])
    assert min(least) == 3
    assert max(most) == 4
    revision = (await client.deployments.get("web", namespace="default")).metadata.annotations
    assert revision["deployment.kubernetes.io/revision"] == "2"


async def test_scaling_makes_and_deletes_pods(client: Client) -> None:
    await client.deployments.create(deployment(1))
    async with watching(client.pods) as pods:
        await pods.until(lambda shown: len(ready(shown)) == 1)
        first = {one.metadata.uid for one in pods.objects}
        await client.deployments.update(deployment(10))
        await pods.until(lambda shown: len(ready(shown)) == 10)
        await client.deployments.update(deployment(1))
        left = await pods.until(lambda shown: len(shown) == 1)

    assert {one.metadata.uid for one in left} == first, "the pod that was ready for longest stays"


async def test_a_deleted_pod_is_replaced(client: Client) -> None:
    await client.deployments.create(deployment(2))
    async with watching(client.pods) as pods:
        before = {one.metadata.uid for one in await pods.until(lambda shown: len(ready(shown)) == 2)}
        victim = next(iter(pods.objects))
        await client.pods.delete(victim.metadata.name, namespace="default")
        after = await pods.until(
            lambda shown: len(ready(shown)) == 2 and victim.metadata.uid not in {one.metadata.uid for one in shown}
        )

    assert len(before & {one.metadata.uid for one in after}) == 1


async def test_a_deleted_deployment_takes_its_sets_and_pods_with_it(client: Client) -> None:
    await client.services.create(service())
    await client.deployments.create(deployment(3))
    async with (
        watching(client.pods) as pods,
        watching(client.replica_sets) as sets,
        watching(client.endpoint_slices) as slices,
    ):
        await slices.until(lambda shown: len(addresses(shown)) == 3)
        await client.deployments.delete("web", namespace="default")
        await sets.until(lambda shown: not shown)
        await pods.until(lambda shown: not shown)
        await slices.until(lambda shown: not addresses(shown, only_ready=False))
        await client.services.delete("web", namespace="default")
        await slices.until(lambda shown: not shown)


async def test_a_deleted_namespace_is_emptied_and_goes(client: Client) -> None:
    await client.namespaces.create(v1.Namespace(metadata=v1.ObjectMeta(name="shop")))
    await client.config_maps.create(v1.ConfigMap(metadata=v1.ObjectMeta(name="settings", namespace="shop")))
    await client.services.create(service(namespace="shop"))
    await client.deployments.create(deployment(3, namespace="shop"))
    await client.deployments.create(deployment(1))
    async with watching(client.pods) as pods, watching(client.namespaces) as namespaces:
        await pods.until(lambda shown: len(ready(shown)) == 4)
        await client.namespaces.delete("shop")
        await namespaces.until(lambda shown: [one.metadata.name for one in shown] == ["default"])
        left = await pods.until(lambda shown: len(shown) == 1)

    assert [one.metadata.namespace for one in left] == ["default"]
    with pytest.raises(errors.NotFound):
        await client.config_maps.get("settings", namespace="shop")


async def test_a_pod_that_fits_nowhere_says_why_and_runs_when_a_node_comes(client: Client) -> None:
    await client.pods.create(pod("large", cpu="6"))
    async with watching(client.pods) as pods, watching(client.events) as events:
        (large,) = await pods.until(lambda shown: any(one.status.conditions for one in shown))
        condition = conditions.find(large.status.conditions, "PodScheduled")
        assert condition is not None
        assert (condition.status, condition.reason) == ("False", "Unschedulable")
        assert condition.message == "0/2 nodes are available: 2 Insufficient cpu."
        await events.until(
            lambda shown: any(
                (one.reason, one.involved_object.uid, one.message)
                == ("FailedScheduling", large.metadata.uid, condition.message)
                for one in shown
            )
        )
        await client.nodes.create(
            v1.Node(
                metadata=v1.ObjectMeta(name="large-node"),
                status=v1.NodeStatus(
                    allocatable={"cpu": v1.Quantity(string="8"), "memory": v1.Quantity(string="8Gi")},
                    conditions=[v1.NodeCondition(type="Ready", status="True")],
                ),
            )
        )
        await pods.until(lambda shown: any(one.spec.node_name == "large-node" for one in shown))


async def test_a_readiness_change_takes_the_pod_out_of_the_endpoints_and_back(
    client: Client, nodes: list[SimulatedAgent]
) -> None:
    await client.services.create(service())
    await client.deployments.create(deployment(2))
    async with watching(client.pods) as pods, watching(client.endpoint_slices) as slices:
        await slices.until(lambda shown: len(addresses(shown)) == 2)
        sick = next(iter(pods.objects))
        healthy = addresses(slices.objects) - {sick.status.pod_ip}
        for agent in nodes:
            agent.is_ready = lambda one: one.metadata.uid != sick.metadata.uid
            agent.look_again()
        await slices.until(lambda shown: addresses(shown) == healthy)
        assert len(addresses(slices.objects, only_ready=False)) == 2
        for agent in nodes:
            agent.is_ready = lambda one: True
            agent.look_again()
        await slices.until(lambda shown: len(addresses(shown)) == 2)


async def test_an_orphan_that_matches_is_adopted_and_a_relabelled_pod_let_go(client: Client) -> None:
    await client.deployments.create(deployment(2))
    async with watching(client.pods) as pods, watching(client.replica_sets) as sets:
        await pods.until(lambda shown: len(ready(shown)) == 2)
        (replica_set,) = sets.objects
        let_go = next(iter(pods.objects))
        relabelled = v1.Pod()
        relabelled.CopyFrom(let_go)
        relabelled.metadata.resource_version = ""
        relabelled.metadata.labels["app"] = "quarantine"
        await client.pods.update(relabelled)
        await pods.until(
            lambda shown: (
                len(shown) == 3
                and any(one.metadata.uid == let_go.metadata.uid and not one.metadata.owner_references for one in shown)
            )
        )
        orphan = pod("orphan", labels=dict(replica_set.spec.selector.match_labels))
        await client.pods.create(orphan)
        # There is one too many now; of the three it is the youngest.
        await pods.until(lambda shown: len(shown) == 3 and "orphan" not in {one.metadata.name for one in shown})
