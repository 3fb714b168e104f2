"""What the proxy does to iptables: differences only, repairs, and nothing left after its removal."""

import asyncio
import os
import re
import subprocess

import pytest

from cni.iptables import detect
from nodeagent.proxy.proxy import Proxy
from tests.integration.cni.hosts import ask, eventually, needs_root
from tests.integration.proxy.cluster import Cluster, Node
from tests.integration.proxy.pictures import service, slice_of

pytestmark = [pytest.mark.root, needs_root]

WEB, SHOP = "10.96.0.10", "10.96.0.11"


def packets(node: Node, words: str) -> int:
    """The packets that rules with these words have counted."""
    saved = node.host.command(f"iptables-{node.iptables.kind}-save", "-c", "-t", "nat")
    return sum(int(line[1:].split(":")[0]) for line in saved.splitlines() if line.startswith("[") and words in line)


def iptables(node: Node, *arguments: str) -> None:
    node.host.run(lambda: node.iptables.run(*arguments))


def test_a_restarted_proxy_that_finds_everything_right_touches_nothing(cluster: Cluster) -> None:
    pod = cluster.pod(cluster.node1, "pod")
    with cluster.proxies() as proxies:
        proxies.put(service("web", WEB), slice_of("web", [pod.endpoint]))
        for _ in range(3):
            ask(cluster.client, WEB, 80)
        counted = packets(cluster.node1, "--to-destination")
        assert counted == 3
    before = cluster.node1.saved()
    with cluster.proxies():
        assert cluster.node1.saved() == before
        assert packets(cluster.node1, "--to-destination") == counted


def test_a_proxy_that_was_away_applies_what_it_missed(cluster: Cluster) -> None:
    one, two = cluster.pod(cluster.node1, "one"), cluster.pod(cluster.node1, "two")
    with cluster.proxies() as proxies:
        proxies.put(service("web", WEB), slice_of("web", [one.endpoint]))
        proxies.put(service("shop", SHOP), slice_of("shop", [one.endpoint]))
    with cluster.proxies(cluster.node2) as proxies:
        proxies.put(slice_of("web", [two.endpoint]))
        proxies.remove("shop")
    assert ask(cluster.client, SHOP, 80)[0] == "one"
    with cluster.proxies():
        assert ask(cluster.client, WEB, 80)[0] == "two"
        assert SHOP not in cluster.node1.saved()


def test_a_change_of_one_service_does_not_touch_another(cluster: Cluster) -> None:
    one, two = cluster.pod(cluster.node1, "one"), cluster.pod(cluster.node1, "two")
    with cluster.proxies() as proxies:
        proxies.put(service("web", WEB), slice_of("web", [one.endpoint]))
        proxies.put(service("shop", SHOP), slice_of("shop", [one.endpoint]))
        ask(cluster.client, SHOP, 80)
        counted = packets(cluster.node1, "default/shop")
        assert counted > 0
        proxies.put(slice_of("web", [one.endpoint, two.endpoint]))
        assert packets(cluster.node1, "default/shop") == counted


def empty_nat(node: Node) -> None:
    """Takes every rule and chain of the nat table away in one step."""
    command = (f"iptables-{node.iptables.kind}-restore", "-w", "5")
    environment = {**os.environ, "XTABLES_LOCKFILE": str(node.iptables.lock_file)}
    node.host.run(lambda: subprocess.run(command, input=b"*nat\nCOMMIT\n", env=environment, check=True))


@pytest.mark.parametrize("arguments", [("-t", "nat", "-F"), ("-t", "filter", "-F"), ("-t", "nat", "-F", "PREROUTING")])
def test_a_flush_by_somebody_else_is_noticed_and_repaired(cluster: Cluster, arguments: tuple[str, ...]) -> None:
    pod = cluster.pod(cluster.node1, "pod")
    # nftables tells at once; the older tables are looked at now and then.
    with cluster.proxies(cluster.node1, check_seconds=30.0 if cluster.node1.iptables.kind == "nft" else 0.2) as proxies:
        proxies.put(service("web", WEB), slice_of("web", [pod.endpoint]), service("shop", SHOP))
        ours = {line for line in cluster.node1.saved().splitlines() if "PODWIRE" in line}
        iptables(cluster.node1, *arguments)
        eventually(lambda: ours <= set(cluster.node1.saved().splitlines()))
        assert ask(cluster.client, WEB, 80)[0] == "pod"
        eventually(lambda: proxies.running[0].flushes > 0)


def test_changes_right_after_a_flush_end_in_everything_that_is_wanted(cluster: Cluster) -> None:
    pod = cluster.pod(cluster.node1, "pod")
    with cluster.proxies(cluster.node1) as proxies:
        proxies.put(service("web", WEB), slice_of("web", [pod.endpoint]))
        empty_nat(cluster.node1)
        proxies.put(service("shop", SHOP), slice_of("shop", [pod.endpoint]))
        proxies.remove("web")
        eventually(lambda: "PODWIRE-SVC" in cluster.node1.saved())
        assert ask(cluster.client, SHOP, 80)[0] == "pod"


def test_rules_of_others_stay_whatever_the_proxy_does(cluster: Cluster) -> None:
    pod = cluster.pod(cluster.node1, "pod")
    node = cluster.node1
    iptables(node, "-t", "nat", "-N", "THEIRS")
    iptables(node, "-t", "nat", "-A", "PREROUTING", "-j", "THEIRS")
    iptables(node, "-A", "INPUT", "-p", "tcp", "--dport", "2222", "-j", "DROP")
    before = node.saved()
    with cluster.proxies(node) as proxies:
        proxies.put(service("web", WEB), slice_of("web", [pod.endpoint]))
        assert set(before.splitlines()) <= set(node.saved().splitlines())
        proxies.running[0].do(lambda: None)
    node.host.run(lambda: asyncio.run(Proxy(node.settings()).remove()))
    assert node.saved() == before


def test_the_kind_that_is_in_use_is_found(cluster: Cluster) -> None:
    cluster.pod(cluster.node1, "pod")
    assert cluster.node1.host.run(detect).kind == cluster.node1.iptables.kind


def test_invalid_segments_of_pods_are_dropped_before_anything_else_in_the_forward_chain(cluster: Cluster) -> None:
    with cluster.proxies(cluster.node1):
        saved = cluster.node1.saved()
        forward = re.findall(r"^-A FORWARD .*-j (\S+)$", saved, re.MULTILINE)
        assert set(forward[:2]) == {"PODWIRE-FORWARD", "PODWIRE-REJECT"}
        assert "-A PODWIRE-FORWARD -s 10.244.0.0/16 -m conntrack --ctstate INVALID -j DROP" in saved
