"""The worker of a pod against a runtime that does as the test says."""

from __future__ import annotations

import asyncio

from google.protobuf.timestamp_pb2 import Timestamp

from nodeagent.containerd.client import RuntimeUnavailable
from nodeagent.containers.errors import ContainerError, ImageError, SandboxError
from nodeagent.model import Phase
from nodeagent.probes.verdicts import Answer, Result
from podwire import errors, v1
from tests.unit.nodeagent.pods.builders import UID, container, pod
from tests.unit.nodeagent.pods.conftest import Stage


def deleted(of: v1.Pod, grace: int) -> v1.Pod:
    changed = v1.Pod()
    changed.CopyFrom(of)
    changed.metadata.deletion_timestamp.CopyFrom(Timestamp(seconds=1))
    changed.metadata.deletion_grace_period_seconds = grace
    return changed


def with_readiness(**values: int) -> v1.Container:
    wanted = container()
    wanted.readiness_probe.MergeFrom(v1.Probe(**values))  # type: ignore[arg-type]
    return wanted


async def test_a_pod_starts_and_is_reported_ready(stage: Stage) -> None:
    stage.start(pod())
    await stage.until_running()
    assert stage.is_ready()
    assert stage.status.pod_ip == "10.244.1.2"
    assert sorted(stage.runtime.calls) == [
        "ensure_image nginx",
        "prepare_container web 0",
        "run_sandbox 0",
        "start_container web 0",
    ]
    assert "Started: Started container web" in stage.events
    assert 'Pulled: Container image "nginx" already present on machine' in stage.events


async def test_the_checkpoint_is_written_before_anything_is_made(stage: Stage) -> None:
    stage.runtime.gates["run_sandbox"] = asyncio.Event()
    stage.start(pod())
    await stage.until(lambda: bool(stage.runtime.calls))
    assert await stage.saved() is not None


async def test_a_status_is_on_disk_before_it_is_sent(stage: Stage) -> None:
    stage.start(pod())
    await stage.until_running()
    saved = await stage.saved()
    assert saved is not None
    assert saved.status == stage.status


async def test_a_pod_that_starts_at_once_is_one_report(stage: Stage) -> None:
    stage.start(pod())
    await stage.until_running()
    assert [status.phase for status in stage.statuses] == ["Running"]


async def test_a_pod_that_takes_its_time_is_reported_on_its_way(stage: Stage) -> None:
    gate = stage.runtime.gates["start_container"] = asyncio.Event()
    stage.start(pod())
    await stage.until(lambda: "start_container web 0" in stage.runtime.calls)
    assert stage.statuses == []
    await stage.clock.advance(0.2)
    await stage.until(lambda: [status.phase for status in stage.statuses] == ["Pending"])
    assert stage.status.pod_ip == "10.244.1.2"
    gate.set()
    await stage.until_running()
    assert len(stage.statuses) == 2


async def test_the_same_status_is_not_sent_twice(stage: Stage) -> None:
    stage.start(pod())
    await stage.until_running()
    sent = len(stage.statuses)
    assert stage.worker is not None
    stage.worker.runtime_changed()
    await stage.until(lambda: "observe_pod" in stage.runtime.calls)
    await stage.clock.advance(100)
    assert len(stage.statuses) == sent


async def test_a_sandbox_that_is_being_made_is_not_looked_at(stage: Stage) -> None:
    gate = stage.runtime.gates["run_sandbox"] = asyncio.Event()
    stage.start(pod())
    await stage.until(lambda: "run_sandbox 0" in stage.runtime.calls)
    assert stage.worker is not None
    stage.worker.runtime_changed()
    await stage.clock.advance(1)
    assert "observe_pod" not in stage.runtime.calls
    gate.set()
    await stage.until_running()
    assert "observe_pod" in stage.runtime.calls


async def test_a_crashing_container_is_restarted_at_once_and_then_after_ten_seconds(stage: Stage) -> None:
    stage.start(pod())
    await stage.until_running()
    stage.runtime.exit("web", 1)
    await stage.until(lambda: stage.web.restart_count == 1)
    stage.runtime.exit("web", 1)
    await stage.until(lambda: stage.web.state.waiting.reason == "CrashLoopBackOff")
    assert not stage.is_ready()
    assert f"BackOff: Back-off restarting failed container web in pod web_default({UID})" in stage.events
    await stage.clock.advance(9)
    assert stage.web.restart_count == 1
    await stage.clock.advance(1)
    await stage.until(lambda: stage.web.restart_count == 2)


async def test_old_attempts_are_removed_but_the_last_one(stage: Stage) -> None:
    stage.start(pod())
    await stage.until_running()
    stage.runtime.exit("web", 1)
    await stage.until(lambda: stage.web.restart_count == 1)
    stage.runtime.exit("web", 1)
    await stage.until(lambda: "remove_container web 0" in stage.runtime.calls)
    await stage.until(lambda: len(stage.runtime.containers) == 1)


async def test_a_lost_sandbox_is_replaced_and_counts_as_a_restart(stage: Stage) -> None:
    stage.start(pod())
    await stage.until_running()
    stage.runtime.lose_sandbox()
    await stage.until(lambda: stage.web.restart_count == 1)
    assert stage.status.pod_ip == "10.244.1.3"
    order = ["stop_container web 0", "remove_sandbox 0", "run_sandbox 1", "start_container web 1"]
    assert [call for call in stage.runtime.calls if call in order] == order


async def test_a_failed_liveness_probe_restarts_the_container(stage: Stage) -> None:
    wanted = container()
    wanted.liveness_probe.MergeFrom(v1.Probe(period_seconds=5, failure_threshold=1, initial_delay_seconds=5))
    stage.answer = Answer(Result.FAILURE, "cat: /tmp/healthy: No such file or directory")
    stage.start(pod(wanted))
    await stage.until_running()
    stage.runtime.obeys_within = None
    await stage.clock.advance(5)
    await stage.until(lambda: "stop_container web 30" in stage.runtime.calls)
    assert "Killing: Container web failed liveness probe, will be restarted" in stage.events
    assert stage.web.restart_count == 0
    await stage.clock.advance(30)
    await stage.until(lambda: stage.web.restart_count == 1)
    assert stage.web.last_state.terminated.exit_code == 137


async def test_readiness_follows_the_probe(stage: Stage) -> None:
    stage.start(pod(with_readiness(period_seconds=5, failure_threshold=1)))
    await stage.until(lambda: bool(stage.statuses) and stage.is_ready())
    stage.answer = Answer(Result.FAILURE, "HTTP probe failed with statuscode: 404")
    await stage.clock.advance(5)
    await stage.until(lambda: not stage.is_ready())
    assert stage.status.phase == "Running"
    assert stage.web.restart_count == 0
    stage.answer = Answer(Result.SUCCESS)
    await stage.clock.advance(5)
    await stage.until(stage.is_ready)


async def test_a_deleted_pod_is_stopped_removed_and_then_forgotten(stage: Stage) -> None:
    stage.start(pod())
    await stage.until_running()
    assert stage.worker is not None and stage.task is not None
    stage.worker.update(deleted(pod(), 30))
    await stage.until(lambda: stage.task is not None and stage.task.done())
    assert stage.runtime.calls[-2:] == ["stop_container web 30", "remove_pod"]
    assert stage.forgotten == [UID]
    assert await stage.saved() is None
    assert "Killing: Stopping container web" in stage.events


async def test_a_deletion_that_cannot_be_told_is_tried_again(stage: Stage) -> None:
    stage.forget_failures = [errors.Unavailable("no control plane")]
    stage.start(pod())
    await stage.until_running()
    assert stage.worker is not None
    stage.worker.update(deleted(pod(), 30))
    await stage.until(lambda: not stage.forget_failures)
    saved = await stage.saved()
    assert saved is not None and saved.metadata.HasField("deletion_timestamp")
    await stage.clock.advance(1)
    await stage.until(lambda: stage.forgotten == [UID])


async def test_a_shorter_grace_takes_the_place_of_a_longer_one(stage: Stage) -> None:
    stage.runtime.obeys_within = None
    stage.start(pod())
    await stage.until_running()
    assert stage.worker is not None
    stage.worker.update(deleted(pod(), 600))
    await stage.until(lambda: "stop_container web 600" in stage.runtime.calls)
    await stage.clock.advance(10)
    stage.worker.update(deleted(pod(), 0))
    await stage.until(lambda: "stop_container web 0" in stage.runtime.calls)
    await stage.until(lambda: stage.forgotten == [UID])


async def test_a_pod_that_is_gone_from_the_api_is_removed_and_nobody_is_told(stage: Stage) -> None:
    stage.start(pod())
    await stage.until_running()
    assert stage.worker is not None
    stage.worker.pod_is_gone()
    await stage.until(lambda: stage.task is not None and stage.task.done())
    assert stage.runtime.calls[-1] == "remove_pod"
    assert stage.forgotten == []


async def test_a_deletion_ends_a_pull_that_hangs(stage: Stage) -> None:
    stage.runtime.gates["ensure_image"] = asyncio.Event()
    stage.start(pod())
    await stage.until(lambda: "ensure_image nginx" in stage.runtime.calls)
    assert stage.worker is not None
    stage.worker.update(deleted(pod(), 30))
    await stage.until(lambda: stage.forgotten == [UID])


async def test_a_failed_pull_is_reported_and_tried_again(stage: Stage) -> None:
    stage.runtime.failures["ensure_image"] = [ImageError("ErrImagePull", "no such image")]
    stage.start(pod())
    await stage.until(lambda: bool(stage.statuses) and stage.web.state.waiting.reason == "ErrImagePull")
    await stage.clock.advance(1)
    await stage.until(lambda: stage.web.state.waiting.reason == "ImagePullBackOff")
    assert 'Failed: Failed to pull image "nginx": no such image' in stage.events
    assert "Failed: Error: ErrImagePull" in stage.events
    await stage.clock.advance(9)
    await stage.until_running()


async def test_a_container_that_cannot_be_made_is_reported_and_tried_again(stage: Stage) -> None:
    stage.runtime.failures["start_container"] = [ContainerError("CreateContainerError", "there is no command to run")]
    stage.start(pod())
    await stage.until(lambda: bool(stage.statuses) and stage.web.state.waiting.reason == "CreateContainerError")
    assert stage.web.state.waiting.message == "there is no command to run"
    assert "Failed: Error: there is no command to run" in stage.events
    await stage.clock.advance(10)
    await stage.until_running()


async def test_a_pod_that_never_restarts_fails_with_a_container_that_cannot_be_started(stage: Stage) -> None:
    stage.runtime.failures["start_container"] = [ContainerError("RunContainerError", "no such program")]
    stage.start(pod(restart="Never"))
    await stage.until(lambda: bool(stage.statuses) and stage.status.phase == "Failed")
    ended = stage.web.state.terminated
    assert (ended.exit_code, ended.reason, ended.message) == (128, "StartError", "no such program")
    assert stage.worker is not None
    stage.worker.runtime_changed()
    await stage.until(lambda: "observe_pod" in stage.runtime.calls and not stage.runtime.sandboxes)
    await stage.clock.advance(600)
    assert stage.web.state.terminated.reason == "StartError"
    assert stage.runtime.calls.count("start_container web 0") == 1


async def test_a_sandbox_that_cannot_be_made_is_told_and_tried_again(stage: Stage) -> None:
    stage.runtime.failures["run_sandbox"] = [SandboxError("no address is free")]
    stage.start(pod())
    await stage.until(lambda: any(e.startswith("FailedCreatePodSandBox") for e in stage.events))
    assert "FailedCreatePodSandBox: Failed to create pod sandbox: no address is free" in stage.events
    await stage.clock.advance(1)
    await stage.until_running()


async def test_while_containerd_is_away_nothing_is_lost(stage: Stage) -> None:
    stage.start(pod())
    await stage.until_running()
    away = RuntimeUnavailable("connection refused")
    stage.runtime.failures["observe_pod"] = [away, away]
    stage.runtime.failures["start_container"] = [away]
    stage.runtime.exit("web", 1)
    await stage.until(lambda: "observe_pod" in stage.runtime.calls)
    await stage.clock.advance(5)
    await stage.until(lambda: "start_container web 1" in stage.runtime.calls)
    await stage.clock.advance(5)
    await stage.until(lambda: stage.web.restart_count == 1)
    assert len(stage.runtime.containers) == 2


async def test_while_containerd_is_away_readiness_is_reported(stage: Stage) -> None:
    stage.start(pod(with_readiness(period_seconds=5, failure_threshold=1)))
    await stage.until(lambda: bool(stage.statuses) and stage.is_ready())
    stage.runtime.failures["observe_pod"] = [RuntimeUnavailable("connection refused")] * 100
    assert stage.worker is not None
    stage.worker.runtime_changed()
    stage.answer = Answer(Result.FAILURE, "HTTP probe failed with statuscode: 404")
    await stage.clock.advance(5)
    await stage.until(lambda: not stage.is_ready())
    assert stage.runtime.failures["observe_pod"]


async def test_a_restarted_agent_touches_no_healthy_container(stage: Stage) -> None:
    wanted = pod(with_readiness(period_seconds=10))
    stage.start(wanted)
    await stage.until(lambda: bool(stage.statuses) and stage.is_ready())
    await stage.stop()
    saved = await stage.saved()
    assert saved is not None
    stage.runtime.calls.clear()
    stage.statuses.clear()
    # The probe would fail, and has not been asked yet.
    stage.answer = Answer(Result.FAILURE, "connection refused")
    stage.start(saved, observed=stage.runtime.now(), reported=saved.status)
    await stage.clock.advance(2)
    assert stage.runtime.calls == []
    assert stage.statuses == []


async def test_a_restarted_agent_takes_a_back_off_up_where_it_was(stage: Stage) -> None:
    stage.start(pod())
    await stage.until_running()
    for restarts in (1, 2):
        stage.runtime.exit("web", 1)
        await stage.clock.advance(10)
        await stage.until(lambda restarts=restarts: stage.web.restart_count == restarts)  # type: ignore[misc]
    stage.runtime.exit("web", 1)
    await stage.until(lambda: stage.web.state.waiting.reason == "CrashLoopBackOff")
    await stage.stop()
    await stage.clock.advance(15)
    stage.start(pod(), observed=stage.runtime.now(), reported=stage.status)
    await stage.clock.advance(4)
    assert stage.web.restart_count == 2
    await stage.clock.advance(1)
    await stage.until(lambda: stage.web.restart_count == 3)


async def test_a_restarted_agent_goes_on_with_a_deletion(stage: Stage) -> None:
    stage.runtime.obeys_within = None
    stage.start(pod())
    await stage.until_running()
    assert stage.worker is not None
    stage.worker.update(deleted(pod(), 30))
    await stage.until(lambda: "stop_container web 30" in stage.runtime.calls)
    await stage.stop()
    saved = await stage.saved()
    assert saved is not None
    stage.start(saved, observed=stage.runtime.now(), reported=saved.status)
    await stage.until(lambda: stage.runtime.calls.count("stop_container web 30") == 2)
    await stage.clock.advance(30)
    await stage.until(lambda: stage.forgotten == [UID])
    assert "start_container web 1" not in stage.runtime.calls


async def test_whoever_waits_for_the_end_of_a_container_hears_of_it(stage: Stage) -> None:
    stage.start(pod())
    await stage.until_running()
    assert stage.worker is not None
    running = next(iter(stage.runtime.containers.values()))
    assert running.phase is Phase.RUNNING
    ended = stage.worker.ended(running.id)
    assert not ended.is_set()
    stage.runtime.exit("web", 0)
    await stage.until(ended.is_set)
    assert stage.worker.ended(running.id).is_set()
