"""Which node a pod goes to, as a table of clusters and pods."""

from __future__ import annotations

import pytest

from controlplane.scheduler.cluster import Cluster, facts_of
from controlplane.scheduler.demand import HostPort, Resources, demand_of
from controlplane.scheduler.scheduling import Decision, decide
from podwire import v1


def quantities(**amounts: str) -> dict[str, v1.Quantity]:
    return {name: v1.Quantity(string=amount) for name, amount in amounts.items()}


def node(
    name: str,
    cpu: str = "4",
    memory: str = "8Gi",
    *,
    pods: str = "",
    ready: str = "True",
    labels: dict[str, str] | None = None,
    taints: tuple[v1.Taint, ...] = (),
    cordoned: bool = False,
) -> v1.Node:
    amounts = {"cpu": cpu, "memory": memory, **({"pods": pods} if pods else {})}
    return v1.Node(
        metadata=v1.ObjectMeta(name=name, labels=labels or {}),
        spec=v1.NodeSpec(unschedulable=cordoned, taints=taints),
        status=v1.NodeStatus(
            allocatable=quantities(**amounts), conditions=[v1.NodeCondition(type="Ready", status=ready)]
        ),
    )


def pod(
    name: str = "web",
    cpu: str = "",
    memory: str = "",
    *,
    host_port: int = 0,
    host_ip: str = "",
    selector: dict[str, str] | None = None,
    tolerations: tuple[v1.Toleration, ...] = (),
) -> v1.Pod:
    requests = {key: amount for key, amount in (("cpu", cpu), ("memory", memory)) if amount}
    container = v1.Container(name="app", resources=v1.ResourceRequirements(requests=quantities(**requests)))
    if host_port:
        container.ports.add(container_port=80, host_port=host_port, host_ip=host_ip)
    return v1.Pod(
        metadata=v1.ObjectMeta(name=name, namespace="default", uid=f"uid-{name}"),
        spec=v1.PodSpec(containers=[container], node_selector=selector or {}, tolerations=tolerations),
    )


def cluster(*nodes: v1.Node, placed: tuple[tuple[v1.Pod, str], ...] = ()) -> Cluster:
    made = Cluster()
    for each in nodes:
        made.set_node(facts_of(each))
    for each_pod, on in placed:
        made.place(each_pod, on)
    return made


def decided(wanted: v1.Pod, in_cluster: Cluster) -> Decision:
    return decide(wanted, demand_of(wanted), in_cluster)


DEDICATED = v1.Taint(key="dedicated", value="db", effect="NoSchedule")


@pytest.mark.parametrize(
    ("wanted", "in_cluster", "expected"),
    [
        pytest.param(pod(), cluster(node("a"), node("b")), "a", id="of equal nodes the first by name"),
        pytest.param(
            pod(), cluster(node("a"), node("b"), placed=((pod("x"), "a"),)), "b", id="the one with fewer pods"
        ),
        pytest.param(
            pod(cpu="1"),
            cluster(node("a"), node("b"), placed=((pod("x", cpu="2"), "a"), (pod("y", cpu="1"), "b"))),
            "b",
            id="the one with more left",
        ),
        pytest.param(
            pod(), cluster(node("small", cpu="1", memory="1Gi"), node("tall")), "tall", id="shares, not amounts, count"
        ),
        pytest.param(pod(cpu="3"), cluster(node("a", cpu="2"), node("b", cpu="4")), "b", id="the one where it fits"),
        pytest.param(
            pod(cpu="1"), cluster(node("a", cpu="1")), "a", id="a node may be filled to the last thousandth of a core"
        ),
        pytest.param(
            pod(selector={"disk": "ssd"}), cluster(node("a"), node("b", labels={"disk": "ssd"})), "b", id="by its label"
        ),
        pytest.param(pod(), cluster(node("a", ready="Unknown"), node("b")), "b", id="not a silent node"),
        pytest.param(pod(), cluster(node("a", cordoned=True), node("b")), "b", id="not a cordoned node"),
        pytest.param(pod(), cluster(node("a", taints=(DEDICATED,)), node("b")), "b", id="not a tainted node"),
        pytest.param(
            pod(tolerations=(v1.Toleration(key="dedicated", operator="Equal", value="db"),)),
            cluster(node("a", taints=(DEDICATED,)), node("b", ready="False")),
            "a",
            id="a taint that it tolerates by value",
        ),
        pytest.param(
            pod(tolerations=(v1.Toleration(operator="Exists"),)),
            cluster(node("a", taints=(DEDICATED,), cordoned=True)),
            "a",
            id="everything tolerated, a cordon too",
        ),
        pytest.param(
            pod(),
            cluster(node("a", taints=(v1.Taint(key="k", effect="PreferNoSchedule"),))),
            "a",
            id="a taint that only prefers does not keep it away",
        ),
        pytest.param(
            pod(host_port=80),
            cluster(node("a"), node("b"), placed=((pod("x", host_port=80), "a"),)),
            "b",
            id="where its host port is free",
        ),
        pytest.param(
            pod(host_port=80, host_ip="10.0.0.1"),
            cluster(node("a"), placed=((pod("x", host_port=80, host_ip="10.0.0.2"), "a"),)),
            "a",
            id="one host port on two addresses",
        ),
    ],
)
def test_a_pod_goes_to(wanted: v1.Pod, in_cluster: Cluster, expected: str) -> None:
    assert decided(wanted, in_cluster) == Decision(expected)


@pytest.mark.parametrize(
    ("wanted", "in_cluster", "reason"),
    [
        pytest.param(pod(), cluster(), "no nodes available to schedule pods", id="no nodes"),
        pytest.param(
            pod(cpu="5", selector={"disk": "ssd"}),
            cluster(node("a", labels={"disk": "ssd"}), node("b")),
            "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match Pod's node affinity/selector.",
            id="each node for its own reason",
        ),
        pytest.param(
            pod(cpu="5", memory="9Gi"),
            cluster(node("a"), node("b"), node("c", pods="0")),
            "0/3 nodes are available: 1 Too many pods, 3 Insufficient cpu, 3 Insufficient memory.",
            id="every resource that is short",
        ),
        pytest.param(
            pod(), cluster(node("a", ready="False")), "0/1 nodes are available: 1 node(s) were not ready.", id="ready"
        ),
        pytest.param(
            pod(),
            cluster(node("a", cordoned=True)),
            "0/1 nodes are available: 1 node(s) were unschedulable.",
            id="cordoned",
        ),
        pytest.param(
            pod(tolerations=(v1.Toleration(key="dedicated", operator="Exists", effect="NoExecute"),)),
            cluster(node("a", taints=(DEDICATED,))),
            "0/1 nodes are available: 1 node(s) had untolerated taint {dedicated: db}.",
            id="a toleration of another effect",
        ),
        pytest.param(
            pod(host_port=80, host_ip="10.0.0.1"),
            cluster(node("a"), placed=((pod("x", host_port=80), "a"),)),
            "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.",
            id="a port that the wildcard address has taken",
        ),
    ],
)
def test_a_pod_that_fits_nowhere_says(wanted: v1.Pod, in_cluster: Cluster, reason: str) -> None:
    assert decided(wanted, in_cluster) == Decision("", reason)


def test_a_node_runs_110_pods_unless_it_says_otherwise() -> None:
    full = cluster(node("a", cpu="1000", memory="1000Gi"), placed=tuple((pod(f"p{n}"), "a") for n in range(110)))

    assert decided(pod(), full).reason == "0/1 nodes are available: 1 Too many pods."


def test_a_pod_that_is_told_twice_counts_once_and_leaves_no_trace() -> None:
    known = cluster(node("a", cpu="1"))
    big = pod("big", cpu="1")
    known.place(big, "a")
    known.place(big, "a")

    assert decided(pod(cpu="1"), known).node == ""
    assert known.remove("uid-big")
    assert not known.remove("uid-big")
    assert decided(pod(cpu="1"), known).node == "a"


def test_the_pods_of_a_node_count_also_when_they_are_heard_of_first() -> None:
    known = cluster(placed=((pod("x", cpu="1"), "late"),))
    known.set_node(facts_of(node("late", cpu="1")))

    assert decided(pod(cpu="1"), known).reason == "0/1 nodes are available: 1 Insufficient cpu."


def test_only_what_matters_for_scheduling_changes_a_node() -> None:
    known = cluster(node("a"))
    heartbeat = node("a")
    heartbeat.status.conditions[0].last_heartbeat_time.GetCurrentTime()

    assert not known.set_node(facts_of(heartbeat))
    assert known.set_node(facts_of(node("a", cordoned=True)))


def container(cpu: str, restart_policy: str = "") -> v1.Container:
    return v1.Container(resources=v1.ResourceRequirements(requests=quantities(cpu=cpu)), restart_policy=restart_policy)


@pytest.mark.parametrize(
    ("spec", "milli"),
    [
        pytest.param(v1.PodSpec(containers=[container("100m"), container("0.5")]), 600, id="containers add up"),
        pytest.param(
            v1.PodSpec(containers=[container("100m")], init_containers=[container("2"), container("1")]),
            2000,
            id="the largest init container, where that is more",
        ),
        pytest.param(
            v1.PodSpec(containers=[container("1")], init_containers=[container("200m", "Always"), container("500m")]),
            1200,
            id="a sidecar runs beside the containers",
        ),
        pytest.param(
            v1.PodSpec(containers=[container("1")], overhead=quantities(cpu="250m")), 1250, id="overhead comes on top"
        ),
    ],
)
def test_a_pod_asks_for(spec: v1.PodSpec, milli: int) -> None:
    assert demand_of(v1.Pod(spec=spec)).requests == Resources(milli, 0)


def test_with_host_network_the_containers_own_ports_are_taken() -> None:
    spec = v1.PodSpec(host_network=True, containers=[v1.Container(ports=[v1.ContainerPort(container_port=8080)])])

    assert demand_of(v1.Pod(spec=spec)).host_ports == {HostPort("0.0.0.0", "TCP", 8080)}
