"""Which endpoints a service has, and which slices are written for them."""

from __future__ import annotations

import pytest

from controlplane.controllers import slice_plan
from controlplane.controllers.endpoints import endpoints_of
from controlplane.controllers.slice_plan import MAX_ENDPOINTS
from podwire import v1

HTTP = v1.ServicePort(name="http", port=80, target_port=v1.IntOrString(string="web"))
PLAIN = v1.ServicePort(port=80, protocol="TCP", target_port=v1.IntOrString(int=8080))


def service(*ports: v1.ServicePort, headless: bool = False, publish_not_ready: bool = False) -> v1.Service:
    return v1.Service(
        metadata=v1.ObjectMeta(name="web", namespace="default", uid="uid-web"),
        spec=v1.ServiceSpec(
            ports=ports or [PLAIN],
            selector={"app": "web"},
            cluster_ip="None" if headless else "10.96.0.1",
            publish_not_ready_addresses=publish_not_ready,
        ),
    )


def pod(
    number: int,
    *,
    ready: bool = True,
    terminating: bool = False,
    phase: str = "Running",
    ip: str | None = None,
    web: int = 8080,
    node: str = "n1",
) -> v1.Pod:
    made = v1.Pod(
        metadata=v1.ObjectMeta(name=f"web-{number}", namespace="default", uid=f"uid-{number}"),
        spec=v1.PodSpec(
            node_name=node, containers=[v1.Container(ports=[v1.ContainerPort(name="web", container_port=web)])]
        ),
        status=v1.PodStatus(phase=phase, pod_ip=f"10.244.1.{number}" if ip is None else ip),
    )
    made.status.conditions.add(type="Ready", status="True" if ready else "False")
    if terminating:
        made.metadata.deletion_timestamp.GetCurrentTime()
    return made


def slices(of: v1.Service, pods: list[v1.Pod], existing: list[v1.EndpointSlice]) -> slice_plan.Plan:
    return slice_plan.plan(of, endpoints_of(of, pods, lambda node: node != "dead"), existing)


def written(step: slice_plan.Plan) -> list[list[str]]:
    """The addresses in each slice that is written."""
    return [[endpoint.addresses[0] for endpoint in one.endpoints] for one in [*step.create, *step.update]]


@pytest.mark.parametrize(
    ("one", "conditions"),
    [
        pytest.param(pod(1), (True, True, False), id="ready"),
        pytest.param(pod(1, ready=False), (False, False, False), id="not ready"),
        pytest.param(pod(1, terminating=True), (False, True, True), id="being stopped but serving"),
    ],
)
def test_an_endpoint_is(one: v1.Pod, conditions: tuple[bool, bool, bool]) -> None:
    (endpoint,) = slices(service(), [one], []).create[0].endpoints

    said = endpoint.conditions
    assert (said.ready, said.serving, said.terminating) == conditions
    assert (endpoint.node_name, endpoint.target_ref.name) == (one.spec.node_name, "web-1")


def readiness(pods: list[v1.Pod]) -> dict[str, bool]:
    (made,) = slices(service(), pods, []).create
    return {endpoint.target_ref.name: endpoint.conditions.ready for endpoint in made.endpoints}


def test_endpoints_of_a_silent_node_take_no_traffic_while_others_can() -> None:
    assert readiness([pod(1, node="dead"), pod(2)]) == {"web-1": False, "web-2": True}


@pytest.mark.parametrize("other", [pod(2, ready=False), pod(2, terminating=True), pod(2, node="dead", ready=False)])
def test_endpoints_of_a_silent_node_stay_where_there_are_no_others(other: v1.Pod) -> None:
    assert readiness([pod(1, node="dead"), other]) == {"web-1": True, "web-2": False}


def test_a_service_that_publishes_addresses_early_calls_them_ready() -> None:
    (endpoint,) = slices(service(publish_not_ready=True), [pod(1, ready=False)], []).create[0].endpoints

    assert (endpoint.conditions.ready, endpoint.conditions.serving) == (True, False)


@pytest.mark.parametrize("one", [pod(1, ip=""), pod(1, phase="Succeeded"), pod(1, phase="Failed")])
def test_a_pod_without_an_address_or_that_is_finished_is_no_endpoint(one: v1.Pod) -> None:
    assert not slices(service(), [one], []).create


def test_a_named_port_is_looked_up_in_each_pod() -> None:
    step = slices(service(HTTP), [pod(1, web=8080), pod(2, web=9090), pod(3, web=8080)], [])

    assert sorted((one.ports[0].name, one.ports[0].port, len(one.endpoints)) for one in step.create) == [
        ("http", 8080, 2),
        ("http", 9090, 1),
    ]


def test_a_pod_without_the_named_port_is_no_endpoint() -> None:
    missing = pod(1)
    del missing.spec.containers[0].ports[:]

    assert not slices(service(HTTP), [missing], []).create


def test_addresses_of_both_families_are_in_slices_of_their_own() -> None:
    step = slices(service(), [pod(1), pod(2, ip="fd00::2")], [])

    assert sorted((one.address_type, len(one.endpoints)) for one in step.create) == [("IPv4", 1), ("IPv6", 1)]


def test_a_slice_names_its_service_its_manager_and_its_owner() -> None:
    (made,) = slices(service(headless=True), [pod(1)], []).create

    assert made.metadata.name.startswith("web-")
    assert dict(made.metadata.labels) == {
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.podwire.io",
        "service.kubernetes.io/headless": "",
    }
    assert [(owner.kind, owner.uid) for owner in made.metadata.owner_references] == [("Service", "uid-web")]


def test_unchanged_slices_are_not_written() -> None:
    pods = [pod(1), pod(2, ready=False)]
    made = slices(service(), pods, []).create

    step = slices(service(), list(reversed(pods)), list(made))

    assert (step.create, step.update, step.delete) == ([], [], [])


def test_a_controller_that_did_not_see_its_slice_makes_the_same_one() -> None:
    assert slices(service(), [pod(1)], []).create == slices(service(), [pod(1)], []).create


def many(count: int) -> list[v1.Pod]:
    return [pod(n, ip=f"10.244.{n // 200}.{n % 200 + 1}") for n in range(count)]


def test_a_slice_ends_at_a_hundred_endpoints() -> None:
    step = slices(service(), many(2 * MAX_ENDPOINTS + 1), [])

    assert [len(one.endpoints) for one in step.create] == [MAX_ENDPOINTS, MAX_ENDPOINTS, 1]
    assert len({one.metadata.name for one in step.create}) == 3


def test_one_pods_change_writes_one_slice() -> None:
    pods = many(250)
    existing = list(slices(service(), pods, []).create)
    pods[120].status.conditions[0].status = "False"

    step = slices(service(), pods, existing)

    assert (len(step.create), len(step.update), len(step.delete)) == (0, 1, 0)


def test_new_endpoints_go_where_there_is_room() -> None:
    pods = many(201)
    existing = list(slices(service(), pods[:-1], []).create)
    without_one = [one for one in pods if one is not pods[5]]

    step = slices(service(), without_one, existing)

    assert (len(step.create), len(step.update)) == (0, 1)
    assert pods[-1].status.pod_ip in written(step)[0]


def test_slices_of_ports_that_the_service_has_no_more_are_deleted_after_the_new_ones_are_made() -> None:
    existing = list(slices(service(), [pod(1)], []).create)
    moved = v1.ServicePort(port=80, protocol="TCP", target_port=v1.IntOrString(int=9090))

    step = slices(service(moved), [pod(1)], existing)

    assert [one.ports[0].port for one in step.create] == [9090]
    assert list(step.delete) == existing


def test_the_last_endpoint_takes_its_slice_with_it() -> None:
    existing = list(slices(service(), [pod(1)], []).create)

    assert list(slices(service(), [], existing).delete) == existing


def test_slices_of_others_and_of_a_namesake_are_not_ours() -> None:
    (ours,) = slices(service(), [pod(1)], []).create
    namesake = service()
    namesake.metadata.uid = "another"
    foreign = v1.EndpointSlice()
    foreign.CopyFrom(ours)
    foreign.metadata.labels[slice_plan.MANAGED_BY_LABEL] = "me"

    assert slice_plan.is_ours(ours, service())
    assert not slice_plan.is_ours(ours, namesake)
    assert not slice_plan.is_ours(foreign, service())
