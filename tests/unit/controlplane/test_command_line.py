"""What the command line of the control plane comes to, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane import __main__ as command
from controlplane.settings import NodePortRange
from podwire.client import Tls

ETCD = "--etcd=http://10.0.0.1:2379,http://10.0.0.2:2379"
FILES = ["--tls-ca=ca", "--tls-cert=cert", "--tls-key=key"]
TWO = ["--processes=2", "--listen=10.0.0.3:6440", *FILES]


def settings(*arguments: str) -> command.Settings:
    return command._settings(command._parser().parse_args(arguments))


def children(*arguments: str) -> list[tuple[str, ...]]:
    return [child.arguments for child in command._children(command._parser().parse_args(arguments))]


def test_scheduler_and_controllers_reach_the_api_through_the_socket_unless_told_otherwise() -> None:
    assert settings("all", ETCD, "--run-dir=/r").elected.api == ("unix:/r/api.sock",)
    assert settings("all", ETCD, "--socket=/s").elected.api == ("unix:/s",)
    assert settings("all", ETCD, "--api=a:1,b:2").elected.api == ("a:1", "b:2")


def test_an_address_to_listen_on_is_the_one_to_advertise_and_needs_certificates() -> None:
    api = settings("api", ETCD, "--listen=10.0.0.3:6440", *FILES).api

    assert (api.listen, api.advertise) == ("10.0.0.3:6440", "10.0.0.3:6440")
    assert api.tls == Tls(Path("ca"), Path("cert"), Path("key"))
    assert api.etcd.endpoints == ("http://10.0.0.1:2379", "http://10.0.0.2:2379")
    with pytest.raises(ValueError, match="--listen needs --tls-ca"):
        settings("api", ETCD, "--listen=10.0.0.3:6440")


def test_certificates_come_in_threes() -> None:
    with pytest.raises(ValueError, match="belong together"):
        settings("api", ETCD, "--etcd-ca=ca")


@pytest.mark.parametrize("text", ["30000", "x-y", "5-4", "0-10", "1-65536"])
def test_a_range_of_ports_that_is_none_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        settings("api", ETCD, f"--node-port-range={text}")

    assert "is no range of ports: write it as 30000-32767" in capsys.readouterr().err


def test_a_range_of_ports_has_both_its_ends() -> None:
    assert settings("api", ETCD, "--node-port-range=31000-31000").api.node_ports == NodePortRange(31000, 31000)


@pytest.mark.parametrize(("text", "seconds"), [("5m", 300.0), ("30s", 30.0), ("2h", 7200.0)])
def test_history_has_a_unit(text: str, seconds: float) -> None:
    assert settings("controllers", ETCD, f"--history={text}").upkeep.history == seconds


def test_five_minutes_of_history_are_kept_unless_told_otherwise() -> None:
    assert settings("controllers", ETCD).upkeep.history == 300.0


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("300", "write it with its unit, as in 5m, 300s or 1h"),
        ("5 m", "write it with its unit"),
        ("-5m", "write it with its unit"),
        ("1.5h", "write it with its unit"),
        ("10s", "at least 30s"),
        ("0m", "at least 30s"),
    ],
)
def test_history_that_is_no_time_or_too_short_is_refused(
    text: str, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        settings("controllers", ETCD, f"--history={text}")

    assert error in capsys.readouterr().err


def test_one_process_serves_the_api_unless_told_otherwise() -> None:
    assert children("api", ETCD) == []
    assert children("scheduler", ETCD) == []
    assert children("all", ETCD) == [("api",), ("scheduler",), ("controllers",)]
    assert settings("api", ETCD, "--listen=10.0.0.3:6440", *FILES).api.own_listen is None


def test_several_processes_of_the_api_are_children_beside_the_other_roles() -> None:
    several = [("api", "--process-number=0"), ("api", "--process-number=1")]

    assert children("api", ETCD, *TWO) == several
    assert children("all", ETCD, *TWO) == [*several, ("scheduler",), ("controllers",)]
    assert children("controllers", ETCD, *TWO) == []
    assert children("api", ETCD, *TWO, "--process-number=1") == []


def test_each_of_several_processes_has_what_cannot_be_shared() -> None:
    more = ["--run-dir=/r", "--advertise=api.example:7000", "--metrics=:9090"]
    first, second = (settings("api", ETCD, *TWO, *more, f"--process-number={number}").api for number in range(2))

    assert first.listen == second.listen == "10.0.0.3:6440"
    assert [first.own_listen, second.own_listen] == ["10.0.0.3:6441", "10.0.0.3:6442"]
    assert [first.advertise, second.advertise] == ["api.example:7001", "api.example:7002"]
    assert [first.metrics, second.metrics] == [":9090", ":9091"]
    assert [first.socket, second.socket] == [Path("/r/api.sock"), Path("/r/api-1.sock")]
    assert settings("all", ETCD, *TWO, "--run-dir=/r").elected.api == ("unix:/r/api.sock", "unix:/r/api-1.sock")


def test_several_processes_need_an_address_and_ports_above_it() -> None:
    with pytest.raises(ValueError, match="needs --listen"):
        settings("api", ETCD, "--processes=2")
    with pytest.raises(ValueError, match=r"the 2 ports above 10\.0\.0\.3:65534 are needed too"):
        settings("api", ETCD, "--processes=2", "--listen=10.0.0.3:65534", *FILES)
    with pytest.raises(ValueError, match="'6440' is no address: write it as HOST:PORT"):
        settings("api", ETCD, "--processes=2", "--listen=6440", *FILES)
