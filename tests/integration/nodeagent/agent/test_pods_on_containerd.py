"""Pods from their objects to running containers and back to nothing, on a real containerd."""

from __future__ import annotations

import os
import signal
import uuid

from podwire import v1
from tests.integration.nodeagent.agent.conftest import Host
from tests.integration.nodeagent.runtime.pods import IMAGE

FOREVER = "trap 'exit 0' TERM; while true; do sleep 0.1; done"


def container(script: str, name: str = "main") -> v1.Container:
    return v1.Container(name=name, image=IMAGE, image_pull_policy="Never", command=["sh", "-c", script])


def pod(*containers: v1.Container, init: tuple[v1.Container, ...] = (), restart: str = "Always") -> v1.Pod:
    spec = v1.PodSpec(
        containers=containers, init_containers=init, restart_policy=restart, termination_grace_period_seconds=5
    )
    return v1.Pod(metadata=v1.ObjectMeta(name="web", namespace="default", uid=str(uuid.uuid4())), spec=spec)


def with_volume(wanted: v1.Pod, volume: v1.Volume) -> v1.Pod:
    """The pod with a volume that all its containers see at /data."""
    wanted.spec.volumes.append(volume)
    for each in (*wanted.spec.init_containers, *wanted.spec.containers):
        each.volume_mounts.add(name=volume.name, mount_path="/data")
    return wanted


async def test_a_pod_runs_and_its_deletion_leaves_nothing(host: Host) -> None:
    wanted = pod(container(FOREVER))
    host.apply(wanted)
    await host.until(lambda: host.is_ready(wanted))
    assert host.status(wanted).pod_ip == "10.244.9.7"
    assert host.container(wanted).image == IMAGE
    host.delete(wanted, grace=5)
    await host.until(lambda: wanted.metadata.uid in host.forgotten)
    await host.until(lambda: not host.pods.uids)
    assert wanted.metadata.uid not in host.node.containerd.ctr("container", "ls", "-q")
    assert not host.node.mounts()
    assert not host.node.connected()
    assert not list((host.node.settings.state_dir / "pods").iterdir())
    assert not list(host.node.settings.log_dir.iterdir())


async def test_a_crash_is_counted_and_remembered(host: Host) -> None:
    wanted = pod(container("exit 3"))
    host.apply(wanted)
    await host.until(lambda: host.container(wanted).state.waiting.reason == "CrashLoopBackOff")
    seen = host.container(wanted)
    assert seen.restart_count == 1
    assert seen.last_state.terminated.exit_code == 3
    assert seen.state.waiting.message.startswith("back-off 10s restarting failed container=main pod=web_default(")


async def test_a_pod_that_never_restarts_ends_with_its_containers(host: Host) -> None:
    good, bad = pod(container("exit 0"), restart="Never"), pod(container("exit 1"), restart="Never")
    bad.metadata.name = "other"
    host.apply(good)
    host.apply(bad)
    await host.until(lambda: host.status(good).phase == "Succeeded" and host.status(bad).phase == "Failed")
    await host.until(lambda: not host.node.connected())
    assert host.container(good).state.terminated.reason == "Completed"
    assert host.container(bad).state.terminated.exit_code == 1


async def test_init_containers_run_in_order_before_the_others_and_share_a_volume_in_memory(host: Host) -> None:
    wanted = with_volume(
        pod(
            container(f"cat /data/order > /data/seen; {FOREVER}"),
            init=(container("echo one >> /data/order", "one"), container("echo two >> /data/order", "two")),
        ),
        v1.Volume(name="shared", empty_dir=v1.EmptyDirVolumeSource(medium="Memory")),
    )
    host.apply(wanted)
    await host.until(lambda: host.is_ready(wanted))
    volume = host.node.settings.state_dir / "pods" / wanted.metadata.uid / "volumes/empty-dir/shared"
    await host.until(lambda: (volume / "seen").exists() and (volume / "seen").read_text() == "one\ntwo\n")
    assert os.path.ismount(volume)
    assert [c.state.terminated.reason for c in host.status(wanted).init_container_statuses] == ["Completed"] * 2
    host.delete(wanted)
    await host.until(lambda: wanted.metadata.uid in host.forgotten)
    assert not volume.exists()


async def test_a_failing_liveness_probe_restarts_the_container(host: Host) -> None:
    alive = container(f"touch /tmp/healthy; sleep 2; rm /tmp/healthy; {FOREVER}")
    alive.liveness_probe.MergeFrom(
        v1.Probe(period_seconds=1, failure_threshold=1, exec=v1.ExecAction(command=["cat", "/tmp/healthy"]))
    )
    wanted = pod(alive)
    host.apply(wanted)
    await host.until(lambda: host.container(wanted).restart_count == 1)
    assert "Killing: Container main failed liveness probe, will be restarted" in host.events
    failed = "Unhealthy: Liveness probe failed: cat: can't open '/tmp/healthy': No such file or directory"
    assert any(event.startswith(failed) for event in host.events)


async def test_readiness_follows_an_exec_probe_without_a_restart(host: Host) -> None:
    checked = container(f"touch /data/ready; {FOREVER}")
    checked.readiness_probe.MergeFrom(
        v1.Probe(period_seconds=1, failure_threshold=1, exec=v1.ExecAction(command=["cat", "/data/ready"]))
    )
    wanted = with_volume(pod(checked), v1.Volume(name="shared", empty_dir=v1.EmptyDirVolumeSource()))
    host.apply(wanted)
    await host.until(lambda: host.is_ready(wanted))
    ready = host.node.settings.state_dir / "pods" / wanted.metadata.uid / "volumes/empty-dir/shared/ready"
    ready.unlink()
    await host.until(lambda: not host.is_ready(wanted))
    assert host.status(wanted).phase == "Running"
    ready.touch()
    await host.until(lambda: host.is_ready(wanted))
    assert host.container(wanted).restart_count == 0


async def test_a_new_agent_touches_no_healthy_container_and_reports_nothing_new(host: Host) -> None:
    wanted = pod(container(FOREVER), container(FOREVER, "side"))
    wanted.spec.containers[0].readiness_probe.MergeFrom(
        v1.Probe(period_seconds=1, exec=v1.ExecAction(command=["true"]))
    )
    host.apply(wanted)
    await host.until(lambda: host.is_ready(wanted))
    before, reports = host.status(wanted), len(host.statuses[wanted.metadata.uid])
    tasks = sorted(host.node.containerd.ctr("task", "ls").splitlines())
    await host.stop()
    await host.start()
    host.apply(wanted)
    probed = host.node.settings.pipes / before.container_statuses[0].container_id.removeprefix("containerd://")
    # The new agent probes.
    await host.until(lambda: any(path.name.startswith("exec-") for path in probed.iterdir()))
    assert sorted(host.node.containerd.ctr("task", "ls").splitlines()) == tasks
    assert host.status(wanted) == before
    assert len(host.statuses[wanted.metadata.uid]) == reports


async def test_a_pod_whose_pause_dies_gets_a_new_sandbox_and_counts_a_restart(host: Host) -> None:
    wanted = pod(container(FOREVER))
    host.apply(wanted)
    await host.until(lambda: host.is_ready(wanted))
    worker = host.pods.find("default", "web")
    assert worker is not None
    os.kill(worker.observed.sandboxes[0].pid, signal.SIGKILL)
    await host.until(lambda: host.container(wanted).restart_count == 1 and host.is_ready(wanted))
    assert host.container(wanted).last_state.terminated.exit_code == 137
    assert [sandbox.attempt for sandbox in worker.observed.sandboxes] == [1]


async def test_another_image_in_the_object_replaces_the_container(host: Host) -> None:
    wanted = pod(container(FOREVER))
    host.apply(wanted)
    await host.until(lambda: host.is_ready(wanted))
    changed = v1.Pod()
    changed.CopyFrom(wanted)
    changed.spec.containers[0].image = "docker.io/library/web:1"
    host.pods.changed("", wanted, changed)
    await host.until(lambda: host.container(wanted).image == "docker.io/library/web:1" and host.is_ready(wanted))
    assert "Killing: Container main definition changed, will be restarted" in host.events


async def test_what_cannot_start_is_reported_with_its_reason(host: Host) -> None:
    no_image, no_program = pod(container(FOREVER)), pod(container(FOREVER))
    no_image.spec.containers[0].image = "docker.io/library/nothing:1"
    no_program.metadata.name = "other"
    no_program.spec.containers[0].command[:] = ["no-such-program"]
    host.apply(no_image)
    host.apply(no_program)
    await host.until(lambda: host.container(no_image).state.waiting.reason == "ErrImageNeverPull")
    await host.until(lambda: host.container(no_program).state.waiting.reason == "RunContainerError")
    assert "no-such-program" in host.container(no_program).state.waiting.message
