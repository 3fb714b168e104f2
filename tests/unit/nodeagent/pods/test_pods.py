"""The set of workers: who starts when, and who waits for whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from nodeagent.model import PodUid
from nodeagent.pods.pods import Pods
from podwire import v1
from tests.unit.nodeagent.pods.builders import UID, pod
from tests.unit.nodeagent.pods.conftest import Stage


class Node:
    """The pods of a node, with the stage's runtime beneath them."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.pods = Pods(stage.surroundings)
        self.task: asyncio.Task[None] | None = None

    async def start(self, **checkpoints: v1.Pod) -> None:
        left = {PodUid(kept.metadata.uid): kept for kept in checkpoints.values()}
        observed = {UID: self.stage.runtime.now()} if left else {}
        self.task = asyncio.create_task(self.pods.run(left, observed))
        await self.stage.until(lambda: self.pods.uids == set(left) or not left)

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            with suppress(asyncio.CancelledError):
                await self.task


@pytest.fixture
async def node(stage: Stage) -> AsyncIterator[Node]:
    made = Node(stage)
    yield made
    await made.stop()


def renamed(uid: str) -> v1.Pod:
    other = pod()
    other.metadata.uid = uid
    return other


async def test_new_pods_wait_until_the_node_is_ready(stage: Stage, node: Node) -> None:
    await node.start()
    node.pods.changed("default/web", None, pod())
    await stage.clock.advance(10)
    assert stage.runtime.calls == []
    assert node.pods.uids == {UID}
    node.pods.open()
    await stage.until_running()


async def test_a_pod_that_ran_before_has_its_worker_at_once(stage: Stage, node: Node) -> None:
    await node.start(web=pod())
    await stage.until_running()


async def test_a_checkpoint_that_the_api_has_no_pod_for_is_removed(stage: Stage, node: Node) -> None:
    await node.start(web=pod())
    await stage.until_running()
    node.pods.settle([])
    await stage.until(lambda: "remove_pod" in stage.runtime.calls)
    await stage.until(lambda: not node.pods.uids)


async def test_another_pod_of_the_same_name_waits_for_the_end_of_the_first(stage: Stage, node: Node) -> None:
    await node.start()
    node.pods.open()
    node.pods.changed("default/web", None, pod())
    await stage.until_running()
    gate = stage.runtime.gates["remove_pod"] = asyncio.Event()
    node.pods.changed("default/web", pod(), renamed("second"))
    await stage.until(lambda: "remove_pod" in stage.runtime.calls)
    assert stage.runtime.calls.count("run_sandbox 0") == 1
    assert node.pods.find("default", "web") is None
    gate.set()
    await stage.until(lambda: stage.runtime.calls.count("run_sandbox 0") == 2)
    found = node.pods.find("default", "web")
    assert found is not None and found.uid == "second"


async def test_a_pod_that_was_removed_here_is_not_started_again_by_a_late_change(stage: Stage, node: Node) -> None:
    await node.start()
    node.pods.open()
    node.pods.changed("default/web", None, pod())
    await stage.until_running()
    going = pod()
    going.metadata.deletion_timestamp.CopyFrom(Timestamp(seconds=1))
    node.pods.changed("default/web", pod(), going)
    await stage.until(lambda: stage.forgotten == [UID])
    await stage.until(lambda: not node.pods.uids)
    node.pods.changed("default/web", going, going)
    await stage.clock.advance(1)
    assert not node.pods.uids
    node.pods.changed("default/web", going, None)


async def test_a_worker_that_fails_by_a_fault_of_ours_is_started_again(stage: Stage, node: Node) -> None:
    stage.runtime.failures["start_container"] = [ZeroDivisionError()]
    await node.start()
    node.pods.open()
    node.pods.changed("default/web", None, pod())
    await stage.until(lambda: node.pods.failures == 1)
    await stage.clock.advance(1)
    await stage.until_running()
