"""The cluster's status, from a replica whose etcd loses a member, its quorum, and all of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from controlplane.election import KEY_PREFIX
from controlplane.store.etcd import Etcd
from podwire import v1
from podwire.client import Client
from tests.integration.controlplane.etcd_cluster import etcd_cluster
from tests.integration.controlplane.etcd_server import EtcdServer
from tests.integration.controlplane.replica import Api, running_api
from tests.integration.podctl.command import Podctl


async def test_what_is_known_is_told_whatever_of_etcd_is_down() -> None:
    async with (
        etcd_cluster() as cluster,
        # It was given one address of three: the others are what etcd says they are.
        Etcd.connect(cluster.urls[:1]) as etcd,
        running_api(cluster.urls[0]) as api,
    ):
        await etcd.put(f"{KEY_PREFIX}controllers".encode(), b"host1-42")
        leader = await cluster.leader()

        healthy = await status_where(api.client, lambda status: down(status) == [False, False, False])
        assert [(member.name, member.leader) for member in healthy.members] == [
            (member.name, member is leader) for member in cluster.members
        ]
        assert healthy.epoch == api.replica.cache.epoch
        assert healthy.revision >= api.replica.cache.revision > 0
        assert all(member.db_size >= member.db_size_in_use > 0 and member.raft_term for member in healthy.members)
        assert [(each.role, each.holder) for each in healthy.leaders] == [
            ("scheduler", ""),
            ("controllers", "host1-42"),
        ]
        assert (healthy.error, list(healthy.alarms), healthy.compacted_revision) == ("", [], 0)

        await etcd.compact(healthy.revision)
        await status_where(api.client, lambda status: status.compacted_revision == healthy.revision)

        others = cluster.members[1:]
        others[0].freeze()
        # The frozen member may have been the leader: then there is another one soon.
        await status_where(api.client, lambda status: down(status) == [False, True, False] and not status.error)

        await others[1].kill()
        trouble = "etcd has no leader: 1 of 3 members answer and it takes 2"
        no_quorum = await status_where(api.client, lambda status: trouble in status.error)
        assert down(no_quorum) == [False, True, True]
        assert no_quorum.revision >= healthy.revision

        await cluster.members[0].kill()
        nothing = await status_where(api.client, lambda status: status.error.startswith("no member of etcd answers"))
        # Who the others are cannot be known now.
        assert down(nothing) == [True]
        assert nothing.revision >= healthy.revision
        others[0].thaw()


def down(status: v1.ClusterStatus) -> list[bool]:
    """Of each member, whether it does not answer."""
    return [member.error != "" for member in status.members]


async def status_where(client: Client, holds: Callable[[v1.ClusterStatus], bool]) -> v1.ClusterStatus:
    """The first status that is as expected: on a busy machine a member may be late with an answer."""
    async with asyncio.timeout(60):
        while not holds(status := await client.cluster_status()):
            pass
    return status


async def test_podctl_shows_members_and_leaders_and_ends_with_1_where_something_is_wrong(
    api: Api, etcd_server: EtcdServer, tmp_path: Path
) -> None:
    config = tmp_path / "client.yaml"
    config.write_text(f'endpoints: ["{api.endpoint}"]\n')
    podctl = Podctl(config, "default")

    await status_where(api.client, lambda status: not status.error and down(status) == [False])
    shown = await podctl("cluster", "status", status=1)
    rows = shown.rows
    assert rows[3][:4] == ["MEMBER", "ID", "ROLE", "VERSION"]
    assert (rows[4][0], rows[4][2], rows[4][-1]) == ("test", "leader", etcd_server.url)
    assert ["scheduler", "<nobody>"] in rows
    assert "Alarms: <none>\n" in shown.out
    assert "Nobody leads the scheduler: start podwire-controlplane scheduler" in shown.out

    tree = await podctl("cluster", "status", "-o", "yaml", status=1)
    assert "dbSizeInUse: " in tree.out
    assert "leader: true" in tree.out
    assert (await podctl("cluster", "status", "-o", "wide", status=2)).err.startswith("error: unknown output format")
