"""What `podctl cluster status` says to a person, and when it says that something is wrong."""

from __future__ import annotations

import pytest

from podctl.cluster import advice, describe, size_text
from podwire import v1


def healthy() -> v1.ClusterStatus:
    status = v1.ClusterStatus(epoch="f00d", revision=1200, compacted_revision=900)
    for number in (1, 2, 3):
        status.members.add(
            name=f"etcd{number}",
            id=f"a{number}",
            client_urls=[f"http://10.0.0.{number}:2379"],
            version="3.4.23",
            db_size=20 << 20,
            db_size_in_use=3 << 20,
            leader=number == 2,
            raft_term=4,
            raft_index=1500,
        )
    status.leaders.add(role="scheduler", holder="host1-42")
    status.leaders.add(role="controllers", holder="host2-42")
    return status


def test_a_healthy_store_is_three_tables_and_no_advice() -> None:
    assert describe(healthy()) == (
        "EPOCH   REVISION   HISTORY SINCE\n"
        "f00d    1200       900\n"
        "\n"
        "MEMBER   ID   ROLE       VERSION   SIZE     IN USE    TERM   INDEX   ENDPOINT\n"
        "etcd1    a1   follower   3.4.23    20 MiB   3.0 MiB   4      1500    http://10.0.0.1:2379\n"
        "etcd2    a2   leader     3.4.23    20 MiB   3.0 MiB   4      1500    http://10.0.0.2:2379\n"
        "etcd3    a3   follower   3.4.23    20 MiB   3.0 MiB   4      1500    http://10.0.0.3:2379\n"
        "\n"
        "ELECTION      HELD BY\n"
        "scheduler     host1-42\n"
        "controllers   host2-42\n"
        "\n"
        "Alarms: <none>\n"
    )


def test_each_alarm_comes_with_what_to_do() -> None:
    status = healthy()
    status.alarms.add(type="NOSPACE", member_id="a1", member_name="etcd1")
    status.alarms.add(type="CORRUPT", member_id="a3", member_name="etcd3")

    assert "Alarms: NOSPACE on etcd1, CORRUPT on etcd3\n" in describe(status)
    full, corrupt = advice(status)
    assert "Delete objects that are not needed" in full
    assert "--quota-backend-bytes" in full
    assert "etcd3" in corrupt
    assert "remove that member" in corrupt


def test_a_member_that_is_down_and_an_election_without_a_holder_are_named() -> None:
    status = healthy()
    status.members[2].error = "no answer within 1.5 s"
    status.leaders[0].holder = ""

    down, nobody = advice(status)
    assert down.startswith("Member etcd3 does not answer: no answer within 1.5 s")
    assert nobody.startswith("Nobody leads the scheduler: start podwire-controlplane scheduler")


def test_without_a_quorum_what_cannot_be_known_is_not_called_absent() -> None:
    status = healthy()
    status.error = "etcd has no leader"
    status.leaders[0].holder = ""

    assert "Alarms: <unknown>" in describe(status)
    assert "scheduler     <unknown>" in describe(status)
    assert len(list(advice(status))) == 1


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (900, "900 B"), (20480, "20 KiB"), (3 << 20, "3.0 MiB"), (2 << 30, "2.0 GiB")]
)
def test_sizes_are_rounded_for_people(size: int, text: str) -> None:
    assert size_text(size) == text
