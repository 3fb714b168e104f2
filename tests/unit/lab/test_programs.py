import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import programs
from lab.plan import Host, Plan

PLAN = Plan("lab", 2, "/checkout")


EVERY_PROGRAM = [(host, name) for host in PLAN.hosts for name in host.programs]


@pytest.mark.parametrize(("host", "name"), EVERY_PROGRAM)
def test_a_program_writes_only_below_the_folders_of_its_host(host: Host, name: str) -> None:
    program = programs.program(PLAN, host, name)
    for path in (*program.files, *program.folders):
        assert path.is_relative_to(host.run) or path.is_relative_to(host.data)


@pytest.mark.parametrize(("host", "name"), EVERY_PROGRAM)
def test_no_proxy_of_the_caller_reaches_a_program(host: Host, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("http_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, "http://proxy.invalid:1")
    assert not [key for key in programs.program(PLAN, host, name).environment if "proxy" in key.lower()]


def test_every_replica_has_all_of_etcd_and_every_agent_all_replicas() -> None:
    plan = Plan("lab", 1, "/checkout", controlplanes=2, etcd_members=3)
    members = "https://10.77.0.21:2379,https://10.77.0.22:2379,https://10.77.0.23:2379"
    sockets = set()
    for host in plan.controlplane_hosts:
        replica = programs.program(plan, host, "controlplane")
        assert f"--etcd={members}" in replica.argv
        (api,) = (option for option in replica.argv if option.startswith("--api="))
        assert len(api.split(",")) == 2
        sockets.add(replica.socket)
    assert len(sockets) == 2
    assert "--api=10.77.0.11:6440,10.77.0.12:6440" in programs.program(plan, plan.host("node1"), "agent").argv


def test_nodes_share_neither_iptables_lock_nor_containerd() -> None:
    one, other = (programs.environment(host) for host in PLAN.node_hosts)
    for name in ("XTABLES_LOCKFILE", "CONTAINERD_ADDRESS"):
        assert one[name] != other[name]


def test_the_machines_own_programs_come_before_the_unpacked_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/opt/own/bin:/usr/bin")
    folders = programs.search_path().split(":")
    assert folders.index("/opt/own/bin") < folders.index(str(programs.TOOLS / "usr/bin"))


def test_each_containerd_has_its_own_root_state_socket_and_runc_state() -> None:
    one, other = (places(containerd_config(host)) for host in PLAN.node_hosts)
    assert len(one) == 4
    assert not one & other


@pytest.mark.parametrize("host", PLAN.node_hosts)
def test_containerd_asks_the_labs_registry_first_for_any_name(host: Host) -> None:
    registries = Path(cri(containerd_config(host))["registry"]["config_path"])
    files = programs.program(PLAN, host, "containerd").files
    mirror = tomllib.loads(files[registries / "_default" / "hosts.toml"])
    assert mirror == {"host": {"http://10.77.0.2:5000": {"capabilities": ["pull", "resolve"]}}}


def test_the_registry_listens_on_its_host_alone() -> None:
    (config,) = programs.program(PLAN, PLAN.registry, "registry").files.values()
    assert yaml.safe_load(config)["http"]["addr"] == "10.77.0.2:5000"


def containerd_config(host: Host) -> dict[str, Any]:
    return tomllib.loads(programs.program(PLAN, host, "containerd").files[host.data / "containerd.toml"])


def cri(config: dict[str, Any]) -> dict[str, Any]:
    section: dict[str, Any] = config["plugins"]["io.containerd.grpc.v1.cri"]
    return section


def places(config: dict[str, Any]) -> set[str]:
    runc = cri(config)["containerd"]["runtimes"]["runc"]["options"]["Root"]
    return {config["root"], config["state"], config["grpc"]["address"], runc}
