"""`podwire-cni` as a container runtime calls it, on a real kernel."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cni.errors import INTERFACE_EXISTS, INVALID_ENVIRONMENT, NOT_AS_ADDED, NOT_AVAILABLE
from tests.integration.cni.hosts import Host, NameServer, ask, needs_root, wire

pytestmark = [pytest.mark.root, needs_root]

Hosts = Callable[[], Host]


class Runtime:
    """What a container runtime does: runs the executable in the node's namespace."""

    def __init__(self, node: Host, state_dir: Path) -> None:
        self._node = node
        self._state_dir = state_dir
        self.configuration: dict[str, Any] = {
            "cniVersion": "1.1.0",
            "name": "podwire",
            "type": "podwire",
            "subnet": "10.244.1.0/24",
            "podNetwork": "10.244.0.0/16",
            "dataDir": str(state_dir),
            "xtablesLock": str(state_dir.parent / "xtables.lock"),
        }

    def call(
        self, verb: str, container_id: str = "c1", pod: Host | None = None, more: dict[str, Any] | None = None
    ) -> tuple[int, Any]:
        """Exit code and what was printed, with `more` in the configuration."""
        environment = {**os.environ, "CNI_COMMAND": verb, "CNI_CONTAINERID": container_id, "CNI_IFNAME": "eth0"}
        environment["CNI_NETNS"] = str(pod.path) if pod else ""
        done = self._node.run(
            lambda: subprocess.run(
                [sys.executable, "-m", "cni"],
                input=json.dumps(self.configuration | (more or {})),
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
        )
        assert not done.stderr
        return done.returncode, json.loads(done.stdout) if done.stdout else None

    def add(self, container_id: str, pod: Host) -> dict[str, Any]:
        code, result = self.call("ADD", container_id, pod)
        assert code == 0, result
        assert isinstance(result, dict)
        return result

    def addresses(self) -> list[str]:
        folder = self._state_dir / "podwire" / "addresses"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def runtime(node: Host, state_dir: Path) -> Runtime:
    return Runtime(node, state_dir)


def test_pods_get_addresses_and_reach_each_other_and_the_gateway(runtime: Runtime, node: Host, hosts: Hosts) -> None:
    one, other = hosts(), hosts()
    first, second = runtime.add("c1", one), runtime.add("c2", other)
    assert first["ips"] == [{"address": "10.244.1.2/24", "gateway": "10.244.1.1", "interface": 2}]
    assert first["interfaces"][2]["sandbox"] == str(one.path)
    assert second["ips"][0]["address"] == "10.244.1.3/24"
    server, gateway = NameServer(other, "other", 8080), NameServer(node, "node", 8081)
    try:
        assert ask(one, "10.244.1.3", 8080) == ("other", "10.244.1.2")
        assert ask(one, "10.244.1.1", 8081) == ("node", "10.244.1.2")
        assert ask(node, "10.244.1.3", 8080) == ("other", "10.244.1.1")
    finally:
        server.close()
        gateway.close()


def test_loopback_is_up_and_no_ipv6_address_waits_for_duplicates(runtime: Runtime, hosts: Hosts) -> None:
    pod = hosts()
    pod.command("ip", "link", "set", "lo", "down")
    runtime.add("c1", pod)
    assert "UP" in pod.command("ip", "-o", "link", "show", "lo")
    assert "tentative" not in pod.command("ip", "-6", "addr", "show", "dev", "eth0")


def test_what_leaves_the_pod_network_has_the_nodes_address_and_what_stays_has_the_pods(
    runtime: Runtime, node: Host, hosts: Hosts
) -> None:
    pod, outside = hosts(), hosts()
    wire(node, outside, one_address="10.77.0.1/24", other_address="10.77.0.2/24")
    outside.command("ip", "addr", "add", "10.244.9.9/32", "dev", "lo")
    outside.command("ip", "route", "add", "10.244.1.0/24", "via", "10.77.0.1")
    node.command("ip", "route", "add", "10.244.9.0/24", "via", "10.77.0.2")
    runtime.add("c1", pod)
    server = NameServer(outside, "outside", 8080)
    try:
        assert ask(pod, "10.77.0.2", 8080) == ("outside", "10.77.0.1")
        assert ask(pod, "10.244.9.9", 8080) == ("outside", "10.244.1.2")
    finally:
        server.close()


def test_delete_leaves_nothing_and_may_be_repeated(runtime: Runtime, node: Host, hosts: Hosts) -> None:
    pod = hosts()
    before = node.links()
    runtime.add("c1", pod)
    assert runtime.call("DEL", "c1", pod) == (0, None)
    assert node.links() - before == {"podwire0"}
    assert pod.links() == {"lo"}
    assert runtime.addresses() == []
    assert runtime.call("DEL", "c1", pod) == (0, None)


def test_delete_without_a_namespace_frees_the_address_and_the_interface(
    runtime: Runtime, node: Host, hosts: Hosts
) -> None:
    runtime.add("c1", hosts())
    assert runtime.call("DEL", "c1") == (0, None)
    assert runtime.addresses() == []
    assert not [name for name in node.links() if name.startswith("pw")]


def test_add_again_with_the_same_id_keeps_the_address_and_leaves_one_interface(
    runtime: Runtime, node: Host, hosts: Hosts
) -> None:
    old, new = hosts(), hosts()
    first = runtime.add("c1", old)
    second = runtime.add("c1", new)
    assert second["ips"] == first["ips"]
    assert old.links() == {"lo"}
    assert len([name for name in node.links() if name.startswith("pw")]) == 1


def test_an_interface_of_somebody_else_in_the_pod_is_an_error_and_takes_no_address(
    runtime: Runtime, hosts: Hosts
) -> None:
    pod = hosts()
    pod.command("ip", "link", "add", "eth0", "type", "bridge")
    code, error = runtime.call("ADD", "c1", pod)
    assert (code, error["code"]) == (1, INTERFACE_EXISTS)
    assert runtime.addresses() == []
    assert pod.links() == {"lo", "eth0"}


def test_a_namespace_that_is_not_there_or_none_is_an_error_of_the_environment(runtime: Runtime, tmp_path: Path) -> None:
    missing = Host("pwtest-missing")
    code, error = runtime.call("ADD", "c1", missing)
    assert (code, error["code"]) == (1, INVALID_ENVIRONMENT)
    file = Host("x")
    file.path = tmp_path / "file"
    file.path.touch()
    code, error = runtime.call("ADD", "c1", file)
    assert (code, error["code"]) == (1, INVALID_ENVIRONMENT)
    assert "not" in error["details"] or "Invalid" in error["details"]


def test_check_finds_what_was_changed(runtime: Runtime, node: Host, hosts: Hosts) -> None:
    pod = hosts()
    result = runtime.add("c1", pod)
    assert runtime.call("CHECK", "c1", pod, {"prevResult": result}) == (0, None)
    pod.command("ip", "addr", "flush", "dev", "eth0")
    code, error = runtime.call("CHECK", "c1", pod, {"prevResult": result})
    assert (code, error["code"]) == (1, NOT_AS_ADDED)
    assert "lost its address 10.244.1.2/24" in error["details"]
    runtime.add("c1", pod)
    node.command("ip", "link", "set", result["interfaces"][1]["name"], "nomaster")
    code, error = runtime.call("CHECK", "c1", pod, {"prevResult": result})
    assert "not an active port" in error["details"]


def test_gc_takes_what_is_not_listed_and_nothing_else(runtime: Runtime, node: Host, hosts: Hosts) -> None:
    pods = [hosts() for _ in range(3)]
    for number, pod in enumerate(pods):
        runtime.add(f"c{number}", pod)
    valid = [{"containerID": "c1", "ifname": "eth0"}]
    assert runtime.call("GC", more={"cni.dev/valid-attachments": valid}) == (0, None)
    assert runtime.addresses() == ["10.244.1.3"]
    assert [pod.links() == {"lo"} for pod in pods] == [True, False, True]
    runtime.call("GC", more={"cni.dev/valid-attachments": []})
    assert runtime.addresses() == []
    assert node.links() == {"lo", "podwire0"}


def test_status_says_when_no_address_is_left(runtime: Runtime, hosts: Hosts) -> None:
    runtime.configuration["subnet"] = "10.244.1.0/29"
    assert runtime.call("STATUS") == (0, None)
    for number in range(5):
        runtime.add(f"c{number}", hosts())
    code, error = runtime.call("STATUS")
    assert (code, error["code"]) == (1, NOT_AVAILABLE)


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0"])
def test_an_older_version_gets_a_result_of_its_own_form(runtime: Runtime, hosts: Hosts, version: str) -> None:
    runtime.configuration["cniVersion"] = version
    result = runtime.add("c1", hosts())
    assert result["cniVersion"] == version
    assert not any("mtu" in interface for interface in result["interfaces"])
    assert ("version" in result["ips"][0]) == (version < "1")


def test_the_bridge_takes_the_uplinks_mtu_and_so_does_the_pod(runtime: Runtime, node: Host, hosts: Hosts) -> None:
    outside, pod = hosts(), hosts()
    wire(node, outside, one_address="10.77.0.1/24", other_address="10.77.0.2/24")
    port = next(name for name in node.links() if name.startswith("to"))
    node.command("ip", "link", "set", port, "mtu", "1400")
    node.command("ip", "route", "add", "default", "via", "10.77.0.2")
    result = runtime.add("c1", pod)
    assert {interface["mtu"] for interface in result["interfaces"]} == {1400}
    assert "mtu 1400" in pod.command("ip", "link", "show", "eth0")


def test_rules_that_somebody_flushed_are_back_after_the_next_add(runtime: Runtime, node: Host, hosts: Hosts) -> None:
    runtime.add("c1", hosts())
    before = node.command("iptables-nft-save", "-t", "nat").count("MASQUERADE")
    node.command("iptables-nft", "-t", "nat", "-F")
    runtime.add("c2", hosts())
    assert node.command("iptables-nft-save", "-t", "nat").count("MASQUERADE") == before == 1
