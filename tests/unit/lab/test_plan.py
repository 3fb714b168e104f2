import pytest

from lab.errors import PlanError
from lab.plan import ETCD_SIZES, MAX_CONTROLPLANES, MAX_NODES, NETWORK, Plan, Role
from lab.programs import program

UNIX_SOCKET_PATH_MAX = 107  # unix(7): 108 bytes with the final zero
LARGEST = Plan("a" * 24, MAX_NODES, "/checkout", MAX_CONTROLPLANES, max(ETCD_SIZES))
LINK_NAME_MAX = 15  # IFNAMSIZ: 16 bytes with the final zero


def test_every_host_has_an_address_of_its_own_in_the_network() -> None:
    addresses = [host.address for host in LARGEST.hosts]
    assert len(set(addresses)) == len(addresses)
    assert set(addresses) <= set(NETWORK.hosts())


def test_every_host_has_its_own_namespace_folders_and_cgroup() -> None:
    for place in ("netns", "run", "data", "cgroup"):
        places = [getattr(host, place) for host in LARGEST.hosts]
        assert len(set(places)) == len(places)


def test_lab_names_that_contain_each_other_share_nothing() -> None:
    one, other = Plan("a", 2, "/checkout"), Plan("a-node1", 2, "/checkout")
    assert not {host.cgroup for host in one.hosts} & {host.cgroup for host in other.hosts}
    assert not {host.netns for host in one.hosts} & {host.netns for host in other.hosts}


def test_the_sockets_of_the_longest_name_fit_the_kernels_limit() -> None:
    for host in LARGEST.hosts:
        for name in host.programs:
            socket = program(LARGEST, host, name).socket
            # containerd appends `.ttrpc` for its second one.
            assert socket is None or len(f"{socket}.ttrpc") <= UNIX_SOCKET_PATH_MAX


def test_every_hosts_name_fits_a_network_link() -> None:
    assert all(len(host.name) <= LINK_NAME_MAX for host in LARGEST.hosts)


def test_the_only_control_plane_and_the_only_etcd_have_no_number() -> None:
    one, more = Plan("lab", 1, "/checkout"), Plan("lab", 1, "/checkout", controlplanes=2, etcd_members=3)
    assert [host.name for host in one.hosts] == ["registry", "client", "controlplane", "etcd", "node1"]
    assert [host.name for host in more.controlplane_hosts] == ["controlplane1", "controlplane2"]
    assert [host.name for host in more.etcd_hosts] == ["etcd1", "etcd2", "etcd3"]


def test_a_plan_of_before_there_were_several_control_planes_is_read() -> None:
    assert Plan.from_json('{"name": "lab", "nodes": 2, "checkout": "/checkout"}') == Plan("lab", 2, "/checkout")


def test_nodes_keep_their_addresses_when_the_lab_grows() -> None:
    small = Plan("lab", 2, "/checkout")
    large = Plan("lab", 5, "/checkout")
    assert set(small.hosts) < set(large.hosts)


def test_a_plan_comes_back_from_its_file_as_it_was() -> None:
    assert Plan.from_json(LARGEST.to_json()) == LARGEST


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a/b", "a.b", "../a", "a" * 25, "a\n"])
def test_a_name_that_is_no_label_is_refused(name: str) -> None:
    with pytest.raises(PlanError, match="cannot name a lab"):
        Plan(name, 1, "/checkout")


@pytest.mark.parametrize("nodes", [0, -1, MAX_NODES + 1])
def test_a_number_of_nodes_out_of_range_is_refused(nodes: int) -> None:
    with pytest.raises(PlanError, match="1 to 150 nodes"):
        Plan("lab", nodes, "/checkout")


@pytest.mark.parametrize("controlplanes", [0, MAX_CONTROLPLANES + 1])
def test_a_number_of_control_planes_out_of_range_is_refused(controlplanes: int) -> None:
    with pytest.raises(PlanError, match="1 to 9 control planes"):
        Plan("lab", 1, "/checkout", controlplanes=controlplanes)


@pytest.mark.parametrize("members", [0, 2, 9])
def test_an_etcd_of_a_size_that_makes_no_sense_is_refused(members: int) -> None:
    with pytest.raises(PlanError, match="one of 1, 3, 5, 7 members"):
        Plan("lab", 1, "/checkout", etcd_members=members)


def test_an_unknown_host_is_answered_with_those_there_are() -> None:
    with pytest.raises(PlanError, match="registry, client, controlplane, etcd, node1, node2"):
        Plan("lab", 2, "/checkout").host("node3")


def test_an_unknown_program_is_answered_with_those_of_the_host() -> None:
    plan = Plan("lab", 2, "/checkout")
    with pytest.raises(PlanError, match="containerd, logs, agent"):
        plan.program(plan.host("node1"), "etcd")


def test_a_node_starts_what_its_agent_needs_first() -> None:
    node = Plan("lab", 1, "/checkout").host("node1")
    assert node.role is Role.NODE
    assert node.programs[-1] == "agent"
