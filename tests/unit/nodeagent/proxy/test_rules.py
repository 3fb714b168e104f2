"""The rules of a service, as the sentences they make."""

from typing import Any

from nodeagent.proxy.endpoints import Target
from nodeagent.proxy.rules import (
    NODE_PORTS,
    NOTHING,
    REJECT,
    SERVICES,
    Chain,
    Facts,
    Frontend,
    Rules,
    fixed_chains,
    frontends,
    jumps,
    service_rules,
)
from podwire import v1

FACTS = Facts("node1", "10.244.0.0/16")
LONGEST_CHAIN_NAME = 28  # iptables: XT_EXTENSION_MAXNAMELEN without its end


def service(*, node_port: int = 0, protocol: str = "TCP", name: str = "http", **spec: Any) -> v1.Service:
    port = v1.ServicePort(name=name, protocol=protocol, port=80)
    if node_port:
        port.node_port = node_port
    spec = {"cluster_ip": "10.96.0.10", "type": "NodePort" if node_port else "ClusterIP", **spec}
    return v1.Service(
        metadata=v1.ObjectMeta(namespace="default", name="web"), spec=v1.ServiceSpec(ports=[port], **spec)
    )


def backends(*addresses: str, local: tuple[str, ...] = (), protocol: str = "TCP") -> list[v1.EndpointSlice]:
    return [
        v1.EndpointSlice(
            address_type="IPv4",
            ports=[v1.EndpointPort(name="http", protocol=protocol, port=8080)],
            endpoints=[
                v1.Endpoint(addresses=[address], node_name="node1" if address in local else "node2")
                for address in addresses
            ],
        )
    ]


def leaves(rules: Rules, kind: str) -> list[tuple[str, ...]]:
    return [content for chain, content in rules.leaves.items() if chain.name.startswith(f"PODWIRE-{kind}-")]


def entries(rules: Rules, chain: Chain) -> list[str]:
    return sorted(entry.rule for entry in rules.entries if entry.chain == chain)


def target_of(rule: str) -> str:
    return rule.rpartition("-j ")[2].split(" ")[0]


def test_a_cluster_address_leads_to_a_chain_that_balances_over_the_endpoints() -> None:
    rules = service_rules(service(), backends("10.244.1.2", "10.244.1.3", "10.244.2.2"), FACTS)
    [entry] = entries(rules, SERVICES)
    assert entry.startswith('-d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http" -m tcp --dport 80 -j ')
    mark, first, second, third = rules.leaves[Chain("nat", target_of(entry))]
    assert mark.startswith("! -s 10.244.0.0/16 ")
    assert mark.endswith("-j MARK --set-xmark 0x4000/0x4000")
    assert "--probability 0.33333333349 " in first
    assert "--probability 0.50000000000 " in second
    assert "--probability" not in third
    hairpin, deliver = rules.leaves[Chain("nat", target_of(first))]
    assert hairpin.startswith("-s 10.244.1.2/32 ")
    assert deliver.endswith("-m tcp -j DNAT --to-destination 10.244.1.2:8080")


def test_a_service_without_ready_endpoints_refuses_tcp_by_a_reset_and_udp_by_icmp() -> None:
    tcp = service_rules(service(node_port=30001), backends(), FACTS)
    assert tcp.leaves == {}
    assert [target_of(rule) for rule in entries(tcp, REJECT)] == ["REJECT", "REJECT"]
    assert all(rule.endswith("--reject-with tcp-reset") for rule in entries(tcp, REJECT))
    assert {entry.chain for entry in tcp.entries} == {REJECT}
    [udp] = entries(service_rules(service(protocol="UDP"), [], FACTS), REJECT)
    assert udp.endswith("-m udp --dport 80 -j REJECT --reject-with icmp-port-unreachable")


def test_headless_and_external_name_services_have_no_rules() -> None:
    for other in (service(cluster_ip="None"), service(type="ExternalName"), service(cluster_ip="")):
        assert service_rules(other, backends("10.244.1.2"), FACTS) == NOTHING


def test_a_node_port_is_masqueraded_and_balanced_like_the_cluster_address() -> None:
    rules = service_rules(service(node_port=30001), backends("10.244.1.2"), FACTS)
    [entry] = entries(rules, NODE_PORTS)
    assert entry.startswith('-p tcp -m comment --comment "default/web:http" -m tcp --dport 30001 -j PODWIRE-EXT-')
    mark, onward = rules.leaves[Chain("nat", target_of(entry))]
    assert target_of(mark) == "MARK"
    assert target_of(onward) == target_of(entries(rules, SERVICES)[0])


def test_the_external_policy_local_keeps_the_source_and_stays_on_the_node() -> None:
    policy = service(node_port=30001, external_traffic_policy="Local")
    rules = service_rules(policy, backends("10.244.1.2", "10.244.2.2", local=("10.244.1.2",)), FACTS)
    [pods, mark, node, rest] = leaves(rules, "EXT")[0]
    assert pods.startswith("-s 10.244.0.0/16 ")
    assert "--src-type LOCAL" in mark
    assert "--src-type LOCAL" in node
    assert target_of(rest).startswith("PODWIRE-SVL-")
    [local] = leaves(rules, "SVL")
    assert len(local) == 1


def test_the_external_policy_local_drops_on_a_node_without_a_pod_of_the_service() -> None:
    policy = service(node_port=30001, external_traffic_policy="Local")
    rules = service_rules(policy, backends("10.244.2.2"), FACTS)
    [drop] = entries(rules, REJECT)
    assert drop.endswith("-m addrtype --dst-type LOCAL -m tcp --dport 30001 -j DROP")
    assert len(entries(rules, SERVICES)) == 1


def test_the_internal_policy_local_leads_to_pods_of_the_node_or_nowhere() -> None:
    policy = service(internal_traffic_policy="Local")
    with_pod = service_rules(policy, backends("10.244.1.2", "10.244.2.2", local=("10.244.1.2",)), FACTS)
    assert target_of(entries(with_pod, SERVICES)[0]).startswith("PODWIRE-SVL-")
    without = service_rules(policy, backends("10.244.2.2"), FACTS)
    assert entries(without, SERVICES) == []
    assert [target_of(rule) for rule in entries(without, REJECT)] == ["DROP"]


def test_affinity_looks_for_the_clients_endpoint_first_and_remembers_it() -> None:
    sticky = service(session_affinity="ClientIP")
    sticky.spec.session_affinity_config.client_ip.timeout_seconds = 60
    rules = service_rules(sticky, backends("10.244.1.2", "10.244.1.3"), FACTS)
    [(_, first, second, *rest)] = leaves(rules, "SVC")
    assert all("-m recent --rcheck --seconds 60 --reap " in rule for rule in (first, second))
    assert len(rest) == 2
    assert all("-m recent --set " in deliver for _, deliver in leaves(rules, "SEP"))


def test_names_of_chains_fit_and_differ_between_services_ports_and_protocols() -> None:
    both = service(protocol="TCP")
    both.spec.ports.add(name="http", protocol="UDP", port=80)
    slices = backends("10.244.1.2") + backends("10.244.1.2", protocol="UDP")
    names = [chain.name for chain in service_rules(both, slices, FACTS).leaves]
    other = service()
    other.metadata.name = "other"
    names += [chain.name for chain in service_rules(other, backends("10.244.1.2"), FACTS).leaves]
    assert len(names) == len(set(names)) == 6
    assert max(map(len, names)) <= LONGEST_CHAIN_NAME


def test_the_rules_of_a_service_are_the_same_each_time_whatever_the_order_of_its_endpoints() -> None:
    one = service_rules(service(), backends("10.244.1.2", "10.244.1.3"), FACTS)
    assert one == service_rules(service(), backends("10.244.1.3", "10.244.1.2"), FACTS)


def test_an_unnamed_port_meets_the_unnamed_port_of_the_slices() -> None:
    slices = backends("10.244.1.2")
    slices[0].ports[0].name = ""
    [entry] = entries(service_rules(service(name=""), slices, FACTS), SERVICES)
    assert '"default/web"' in entry


def test_node_ports_are_not_served_on_loopback_and_invalid_segments_of_pods_are_dropped() -> None:
    ways = [entry.rule for entry in jumps(FACTS) if NODE_PORTS.name in entry.rule]
    assert len(ways) == 2
    assert all(rule.startswith("! -d 127.0.0.0/8 ") for rule in ways)
    drops = [rule for rules in fixed_chains(FACTS).values() for rule in rules if "INVALID" in rule]
    assert [rule.split(" ")[:2] for rule in drops] == [["-s", "10.244.0.0/16"], ["-d", "10.244.0.0/16"]]


def test_frontends_name_the_targets_of_the_address_and_of_the_node_port() -> None:
    targets = frozenset({Target("10.244.1.2", 8080)})
    assert frontends(service(node_port=30001, protocol="UDP"), backends("10.244.1.2", protocol="UDP"), FACTS) == {
        Frontend("UDP", "10.96.0.10", 80): targets,
        Frontend("UDP", "", 30001): targets,
    }
