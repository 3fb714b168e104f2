"""The plugin's configuration: defaults, and every wrong field in one error."""

from ipaddress import IPv4Network
from typing import Any

import pytest

from cni.configuration import at_least, parse
from cni.errors import INCOMPATIBLE_VERSION, INVALID_CONFIGURATION, CniError

LEAST: dict[str, Any] = {"cniVersion": "1.1.0", "name": "podwire", "type": "podwire", "subnet": "10.244.1.0/24"}


def test_a_subnet_is_all_it_takes() -> None:
    config = parse(LEAST)
    assert (config.bridge, config.masquerade, config.mtu) == ("podwire0", True, None)
    assert config.pod_network == IPv4Network("10.244.1.0/24")


def test_all_wrong_fields_are_in_one_error() -> None:
    wrong = LEAST | {"name": "../up", "bridge": "a-name-too-long-for-linux", "subnet": "10.244.1.0/33", "mtu": "big"}
    with pytest.raises(CniError) as caught:
        parse(wrong)
    assert caught.value.code == INVALID_CONFIGURATION
    for field in ("name:", "bridge:", "subnet:", "mtu:"):
        assert field in caught.value.details


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("subnet", "10.244.1.1/24"),
        ("subnet", "fd00::/64"),
        ("subnet", "10.244.1.0/30"),
        ("subnet", 10),
        ("podNetwork", "10.243.0.0/16"),
        ("mtu", 67),
        ("mtu", True),
        ("iptables", "ebtables"),
        ("dataDir", "relative"),
        ("ipMasq", "yes"),
        ("bridge", ""),
        ("bridge", "a/b"),
    ],
)
def test_a_wrong_value_is_named(field: str, value: object) -> None:
    with pytest.raises(CniError) as caught:
        parse(LEAST | {field: value})
    assert caught.value.details.startswith(f"{field}: ")


def test_a_missing_subnet_says_what_it_is() -> None:
    with pytest.raises(CniError, match="network of this node's pods"):
        parse({"cniVersion": "1.1.0", "name": "podwire"})


def test_a_version_that_is_not_spoken_is_an_error_of_its_own() -> None:
    with pytest.raises(CniError) as caught:
        parse(LEAST | {"cniVersion": "0.1.0"})
    assert caught.value.code == INCOMPATIBLE_VERSION


def test_versions_compare_as_numbers() -> None:
    assert at_least("1.10.0", "1.9.0")
    assert not at_least("0.4.0", "1.0.0")
