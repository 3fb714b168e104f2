"""watch() and Informer through everything that can happen to a server: neither misses a change nor tells one twice.

The servers are processes on a real etcd, killed with SIGKILL while a writer goes on; what a follower has put together
from events is compared to a list, and every write that was acknowledged must have come exactly once.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing
from pathlib import Path

import pytest

from controlplane.store.etcd import Etcd
from podwire import errors, v1
from podwire.client import Client, Informer, RetryPolicy, Settings
from podwire.keys import key_of
from tests.integration.controllers.processes import Role, serving
from tests.integration.controlplane.etcd_server import EtcdServer
from tests.integration.controlplane.network import eventually
from tests.integration.controlplane.replica import config_map

NAMESPACE = "default"
# The servers of a busy machine take longer to come back than a client's usual patience.
PATIENT = Settings(RetryPolicy(patience=60.0))


class World:
    """An etcd, two replicas of the API as processes, and clients that prefer one of them."""

    def __init__(self, folder: Path) -> None:
        (folder / "etcd").mkdir()
        self.etcd = EtcdServer(folder / "etcd")
        self.first, self.second = (
            Role("api", self.etcd.url, self._made(folder / name), socket=folder / f"{name}.sock") for name in "ab"
        )

    @staticmethod
    def _made(folder: Path) -> Path:
        folder.mkdir()
        return folder

    async def start(self) -> None:
        await self.etcd.start()
        await self.first.start()
        await self.second.start()

    async def stop(self) -> None:
        await self.first.kill()
        await self.second.kill()
        await self.etcd.kill()

    def client(self, *roles: Role) -> Client:
        return Client.connect([f"unix:{role.socket}" for role in roles], settings=PATIENT)


@pytest.fixture
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    made = World(tmp_path_factory.mktemp("w"))
    try:
        await made.start()
        for role in (made.first, made.second):
            async with made.client(role) as client:
                await serving(client)
        yield made
    finally:
        await made.stop()


class Replay:
    """What a follower makes of what it hears: the picture, and every (key, revision) of a change."""

    def __init__(self) -> None:
        self.picture: dict[str, str] = {}
        self.changes: list[tuple[str, int]] = []
        self.deletions = 0

    def changed(self, obj: v1.ConfigMap) -> None:
        self.picture[key_of(obj)] = obj.metadata.resource_version
        self.changes.append((key_of(obj), int(obj.metadata.resource_version)))

    def deleted(self, key: str) -> None:
        del self.picture[key]
        self.deletions += 1

    def handler(self, key: str, old: v1.ConfigMap | None, new: v1.ConfigMap | None) -> None:
        if new is None:
            self.deleted(key)
        else:
            self.changed(new)

    async def follow(self, client: Client) -> None:
        async with aclosing(client.config_maps.watch(namespace=NAMESPACE, send_initial_events=True)) as events:
            async for event in events:
                if event.type == "DELETED":
                    self.deleted(key_of(event.object))
                elif event.type != "BOOKMARK":
                    self.changed(event.object)

    def assert_no_repetition(self) -> None:
        assert len(set(self.changes)) == len(self.changes)
        for key in {key for key, _ in self.changes}:
            revisions = [revision for of, revision in self.changes if of == key]
            assert revisions == sorted(revisions), key


class Followers:
    """A watch and an informer of one client."""

    def __init__(self, client: Client) -> None:
        self.watch, self.informer = Replay(), Replay()
        informer = Informer(client.config_maps, namespace=NAMESPACE)
        informer.add_handler(self.informer.handler)
        self._tasks = [
            asyncio.create_task(self.watch.follow(client), name="watch"),
            asyncio.create_task(informer.run(), name="informer"),
        ]

    @property
    def replays(self) -> tuple[Replay, Replay]:
        return self.watch, self.informer

    async def agree_with(self, client: Client) -> None:
        """Until both have put together what a list shows."""
        listed = await client.config_maps.list(namespace=NAMESPACE)
        expected = {key_of(item): item.metadata.resource_version for item in listed.items}
        await eventually(lambda: self._alive() and all(one.picture == expected for one in self.replays), within=60)

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    def _alive(self) -> bool:
        for task in self._tasks:
            if task.done():
                task.result()
        return True


class Writer:
    """Creates, updates and deletes a few objects over and over, and notes what was acknowledged."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.acknowledged: list[tuple[str, int]] = []
        self.rounds = 0
        self.writing = asyncio.create_task(self._run(), name="writer")

    async def _run(self) -> None:
        for number in itertools.count():
            name = f"c{number % 7}"
            await self._certainly(self._put(name, str(number)))
            if number % 3 == 0:
                await self._certainly(self._client.config_maps.delete(name, namespace=NAMESPACE))
            self.rounds = number

    async def more(self, rounds: int = 15) -> None:
        """Until it has written some more; raises what has ended it before."""
        until = self.rounds + rounds
        await eventually(lambda: self.writing.done() or self.rounds >= until, within=60)
        if self.writing.done():
            self.writing.result()

    async def end(self) -> None:
        self.writing.cancel()
        await asyncio.wait([self.writing])

    async def _put(self, name: str, number: str) -> None:
        try:
            written = await self._client.config_maps.create(config_map(name, NAMESPACE, number=number))
        except errors.AlreadyExists:
            written = await self._client.config_maps.modify(
                name, lambda current: current.data.update(number=number), namespace=NAMESPACE
            )
        self.acknowledged.append((key_of(written), int(written.metadata.resource_version)))

    async def _certainly(self, write: Awaitable[object]) -> None:
        """Of a write that was lost with its server nobody knows: it is not repeated, and not counted."""
        try:
            await write
        except errors.NotFound:
            pass
        except errors.PodwireError as error:
            if not error.in_doubt:
                raise


async def test_kills_of_every_server_lose_and_repeat_no_change(world: World) -> None:
    async with world.client(world.first, world.second) as ours, world.client(world.second, world.first) as theirs:
        followers, writer = Followers(ours), Writer(theirs)
        await writer.more()
        for server in (world.first, world.etcd, world.second, world.first):
            await server.kill()
            if server is world.etcd:
                await server.start()
            await writer.more()
            if server is not world.etcd:
                await server.start()
                await writer.more()
        await writer.end()
        await followers.agree_with(theirs)
        for replay in followers.replays:
            replay.assert_no_repetition()
            assert set(writer.acknowledged) <= set(replay.changes)
        await followers.end()


async def test_a_compaction_ends_in_the_difference_to_a_new_list(world: World) -> None:
    async with world.client(world.first) as ours, world.client(world.second) as theirs:
        maps = theirs.config_maps
        for name in ("kept", "changed", "gone", "replaced"):
            await maps.create(config_map(name, NAMESPACE))
        followers = Followers(ours)
        await followers.agree_with(theirs)
        # The followers' server hears no more; what happens now is compacted away before it is started again.
        world.first.freeze()
        await maps.patch("changed", {"data": {"a": "b"}}, namespace=NAMESPACE)
        for name in ("gone", "replaced"):
            await maps.delete(name, namespace=NAMESPACE)
        for name in ("replaced", "new"):
            await maps.create(config_map(name, NAMESPACE))
        revision = int((await maps.list()).resource_version)
        async with Etcd.connect([world.etcd.url]) as etcd:
            await etcd.compact(revision)
        await world.first.kill()
        await world.first.start()
        await followers.agree_with(theirs)
        await maps.patch("kept", {"data": {"a": "b"}}, namespace=NAMESPACE)
        await followers.agree_with(theirs)
        for replay in followers.replays:
            replay.assert_no_repetition()
            # Four at first, three that the list showed to be new or changed, and the last.
            assert (len(replay.changes), replay.deletions) == (8, 2)
        await followers.end()


async def test_another_store_in_the_place_of_the_old_one_is_shown_as_it_is(world: World) -> None:
    async with world.client(world.first, world.second) as ours, world.client(world.second) as theirs:
        for name in ("kept", "lost"):
            await theirs.config_maps.create(config_map(name, NAMESPACE))
        followers = Followers(ours)
        await followers.agree_with(theirs)
        await world.stop()
        shutil.rmtree(world.etcd.folder / "data")
        await world.start()
        await serving(theirs)
        # Its revisions are lower than those that the followers have seen.
        await theirs.config_maps.create(config_map("kept", NAMESPACE))
        await followers.agree_with(theirs)
        for replay in followers.replays:
            assert set(replay.picture) == {"default/kept"}
        await followers.end()
