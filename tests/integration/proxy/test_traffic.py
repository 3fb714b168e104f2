"""Service traffic between real namespaces, through real iptables of both kinds."""

import socket
import time
from collections import Counter

import pytest

from cni.iptables import Kind
from tests.integration.cni.hosts import Host, ask, ask_udp, needs_root, udp_client
from tests.integration.proxy.cluster import Cluster
from tests.integration.proxy.pictures import service, slice_of

pytestmark = [pytest.mark.root, needs_root]

WEB = "10.96.0.10"
NODE_PORT = 30001


def answers(client: Host, address: str, port: int = 80, times: int = 30) -> Counter[str]:
    return Counter(ask(client, address, port)[0] for _ in range(times))


def refused_after(client: Host, address: str, port: int = 80) -> float:
    """Seconds until the connection is refused."""
    started = time.monotonic()
    with pytest.raises(ConnectionRefusedError):
        ask(client, address, port)
    return time.monotonic() - started


def test_a_cluster_address_reaches_all_endpoints_from_pods_nodes_and_outside(cluster: Cluster) -> None:
    one, two = cluster.pod(cluster.node1, "one"), cluster.pod(cluster.node2, "two")
    with cluster.proxies() as proxies:
        proxies.put(service("web", WEB), slice_of("web", [one.endpoint, two.endpoint]))
        for client in (one.host, two.host, cluster.node1.host, cluster.client):
            assert answers(client, WEB).keys() == {"one", "two"}


def test_pods_of_one_node_reach_each_other_through_the_service_under_their_own_address(cluster: Cluster) -> None:
    client, server = cluster.pod(cluster.node1, "client"), cluster.pod(cluster.node1, "server")
    with cluster.proxies() as proxies:
        proxies.put(service("web", WEB), slice_of("web", [server.endpoint]))
        assert ask(client.host, WEB, 80) == ("server", client.address)


def test_a_pod_reaches_itself_through_its_service(cluster: Cluster) -> None:
    pod = cluster.pod(cluster.node1, "pod")
    with cluster.proxies() as proxies:
        proxies.put(service("web", WEB), slice_of("web", [pod.endpoint]))
        assert answers(pod.host, WEB, times=5) == {"pod": 5}


def test_a_node_port_answers_on_every_node_for_pods_of_every_node_but_not_on_loopback(cluster: Cluster) -> None:
    one, two = cluster.pod(cluster.node1, "one"), cluster.pod(cluster.node2, "two")
    with cluster.proxies() as proxies:
        proxies.put(service("web", WEB, node_port=NODE_PORT), slice_of("web", [one.endpoint, two.endpoint]))
        for node in (cluster.node1, cluster.node2):
            assert answers(cluster.client, node.address, NODE_PORT).keys() == {"one", "two"}
            assert answers(one.host, node.address, NODE_PORT).keys() == {"one", "two"}
        assert refused_after(cluster.node1.host, "127.0.0.1", NODE_PORT) < 1


def test_an_endpoint_that_is_removed_gets_no_new_connection_and_keeps_the_old_ones(cluster: Cluster) -> None:
    one, two = cluster.pod(cluster.node1, "one"), cluster.pod(cluster.node2, "two")
    with cluster.proxies() as proxies:
        proxies.put(service("web", WEB), slice_of("web", [one.endpoint, two.endpoint]))
        assert answers(cluster.client, WEB).keys() == {"one", "two"}
        proxies.put(slice_of("web", [two.endpoint]))
        assert answers(cluster.client, WEB) == {"two": 30}


def test_a_service_without_endpoints_refuses_at_once_however_often_it_is_tried(cluster: Cluster) -> None:
    pod = cluster.pod(cluster.node1, "pod")
    with cluster.proxies() as proxies:
        proxies.put(service("web", WEB, node_port=NODE_PORT), slice_of("web", []))
        for _ in range(20):
            assert refused_after(cluster.client, WEB) < 0.5
            assert refused_after(pod.host, WEB) < 0.5
        assert refused_after(cluster.client, cluster.node2.address, NODE_PORT) < 0.5
        assert refused_after(cluster.node1.host, WEB) < 0.5
        proxies.put(slice_of("web", [pod.endpoint]))
        assert answers(cluster.client, WEB, times=3) == {"pod": 3}


def test_udp_without_endpoints_is_refused(cluster: Cluster) -> None:
    pod = cluster.pod(cluster.node1, "pod")
    with cluster.proxies() as proxies, udp_client(pod.host) as client:
        proxies.put(service("dns", WEB, protocol="UDP"))
        client.connect((WEB, 80))
        client.send(b"?")
        with pytest.raises(ConnectionRefusedError):
            client.recv(100)


def test_a_udp_client_that_keeps_its_port_moves_to_the_endpoint_that_is_left(cluster: Cluster) -> None:
    one, two = cluster.pod(cluster.node1, "one"), cluster.pod(cluster.node2, "two")
    with cluster.proxies() as proxies, udp_client(cluster.client) as client, udp_client(one.host) as inside:
        proxies.put(
            service("dns", WEB, protocol="UDP", node_port=NODE_PORT), slice_of("dns", [one.endpoint], protocol="UDP")
        )
        assert ask_udp(client, WEB, 80) == "one"
        assert ask_udp(inside, WEB, 80) == "one"
        assert ask_udp(client, cluster.node1.address, NODE_PORT) == "one"
        proxies.put(slice_of("dns", [two.endpoint], protocol="UDP"))
        assert ask_udp(client, WEB, 80) == "two"
        assert ask_udp(inside, WEB, 80) == "two"
        assert ask_udp(client, cluster.node1.address, NODE_PORT) == "two"
        proxies.put(slice_of("dns", [], protocol="UDP"))
        client.settimeout(0.2)
        with pytest.raises(OSError):
            ask_udp(client, WEB, 80)
        client.settimeout(1)
        proxies.put(slice_of("dns", [one.endpoint], protocol="UDP"))
        assert ask_udp(client, WEB, 80) == "one"


def test_affinity_keeps_a_client_at_its_endpoint(cluster: Cluster) -> None:
    pods = [cluster.pod(cluster.node1, f"pod{number}") for number in range(4)]
    with cluster.proxies() as proxies:
        proxies.put(service("web", WEB, session_affinity="ClientIP"), slice_of("web", [pod.endpoint for pod in pods]))
        for client in (pods[0].host, pods[1].host):
            assert len(answers(client, WEB)) == 1


def test_the_external_policy_local_shows_the_client_and_drops_where_no_pod_is(cluster: Cluster) -> None:
    pod = cluster.pod(cluster.node1, "pod")
    # The answer goes back through the node it came by.
    with cluster.proxies() as proxies:
        proxies.put(
            service("web", WEB, node_port=NODE_PORT, external_traffic_policy="Local"), slice_of("web", [pod.endpoint])
        )
        assert ask(cluster.client, cluster.node1.address, NODE_PORT) == ("pod", "10.77.0.100")
        with pytest.raises(socket.timeout):
            ask(cluster.client, cluster.node2.address, NODE_PORT, timeout=0.5)


def test_the_internal_policy_local_leads_to_pods_of_the_node_only(cluster: Cluster) -> None:
    one, two = cluster.pod(cluster.node1, "one"), cluster.pod(cluster.node2, "two")
    with cluster.proxies() as proxies:
        proxies.put(service("web", WEB, internal_traffic_policy="Local"), slice_of("web", [one.endpoint, two.endpoint]))
        assert answers(one.host, WEB) == {"one": 30}
        assert answers(two.host, WEB) == {"two": 30}


def test_a_deleted_service_leaves_no_rule(cluster: Cluster, kind: Kind) -> None:
    pod = cluster.pod(cluster.node1, "pod")
    with cluster.proxies(cluster.node1) as proxies:
        before = cluster.node1.saved()
        proxies.put(service("web", WEB, node_port=NODE_PORT), slice_of("web", [pod.endpoint]))
        assert cluster.node1.saved() != before
        proxies.remove("web")
        assert cluster.node1.saved() == before
