"""What a securityContext makes of the default capabilities."""

import pytest

from nodeagent.containers.capabilities import DEFAULT, NAMES, available, granted
from nodeagent.containers.errors import ContainerError
from podwire import v1

ALL = frozenset(NAMES)


def grant(offered: frozenset[str] = ALL, **fields: list[str]) -> set[str]:
    return set(granted(v1.SecurityContext(capabilities=v1.Capabilities(**fields)), offered))


def test_without_a_word_a_container_gets_what_docker_gives() -> None:
    assert grant() == set(DEFAULT)
    assert len(DEFAULT) == 14


def test_capabilities_are_added_and_dropped_by_either_form_of_name() -> None:
    assert grant(add=["NET_ADMIN"], drop=["CAP_CHOWN", "kill"]) == set(DEFAULT) - {"CAP_CHOWN", "CAP_KILL"} | {
        "CAP_NET_ADMIN"
    }


def test_all_can_be_dropped_and_one_kept() -> None:
    assert grant(drop=["ALL"], add=["NET_BIND_SERVICE"]) == {"CAP_NET_BIND_SERVICE"}


def test_all_can_be_added_but_one() -> None:
    assert grant(add=["ALL"], drop=["SYS_ADMIN"]) == ALL - {"CAP_SYS_ADMIN"}


def test_a_privileged_container_gets_what_the_node_has() -> None:
    offered = ALL - {"CAP_SYS_RESOURCE"}
    assert set(granted(v1.SecurityContext(privileged=True), offered)) == offered


def test_what_does_not_exist_or_cannot_be_given_is_an_error() -> None:
    with pytest.raises(ContainerError, match="no capability CAP_FLY"):
        grant(add=["FLY"])
    with pytest.raises(ContainerError, match="CAP_SYS_RESOURCE to give"):
        grant(ALL - {"CAP_SYS_RESOURCE"}, add=["SYS_RESOURCE"])


def test_the_nodes_own_are_read_from_its_status() -> None:
    assert available("Name:\tx\nCapBnd:\t0000000000000021\n") == {"CAP_CHOWN", "CAP_KILL"}
    assert ALL - {"CAP_SYS_RESOURCE"} == available("CapBnd:\t000001fffeffffff\n")
