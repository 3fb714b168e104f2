"""What containers of a pod find around them, and what is left of it afterwards."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from nodeagent.containers.errors import ContainerError, ImageError, SandboxError
from nodeagent.model import Mount, Phase
from nodeagent.runtime import Runtime
from nodeagent.sandboxes.cgroups import Cgroups
from podwire import v1
from tests.integration.nodeagent.runtime.conftest import Node
from tests.integration.nodeagent.runtime.pods import (
    QUICK_IMAGE,
    WEB_IMAGE,
    eventually,
    make_pod,
    output,
    run,
    shell,
    start,
    uid_of,
)


async def test_nothing_of_a_removed_pod_is_left(runtime: Runtime, node: Node) -> None:
    pod = make_pod(share_process_namespace=True)
    sandbox = await runtime.run_sandbox(pod, 0)
    for name in ("one", "two"):
        await run(runtime, pod, shell("echo hello; sleep 1000", name), sandbox)
    assert node.connected() == {sandbox.id}

    await runtime.remove_pod(uid_of(pod), "default", pod.metadata.name)

    observed = await runtime.observe_pod(uid_of(pod))
    assert (observed.sandboxes, observed.containers) == ((), ())
    assert pod.metadata.uid not in node.containerd.ctr("containers", "ls")
    assert pod.metadata.uid not in node.containerd.ctr("tasks", "ls")
    assert pod.metadata.uid not in node.containerd.ctr("snapshots", "ls")
    assert node.containerd.ctr("leases", "ls", "-q") == ""
    assert node.mounts() == []
    assert node.connected() == set()
    assert Cgroups.mounted().children(node.settings.cgroup_parent) == set()
    for folder in (node.settings.sandboxes, node.settings.pipes, node.settings.log_dir):
        assert list(folder.iterdir()) == []


async def test_containers_of_a_pod_share_name_network_and_memory_but_not_processes(runtime: Runtime) -> None:
    pod = make_pod()
    sandbox = await runtime.run_sandbox(pod, 0)
    one = await run(runtime, pod, shell("sleep 1000", "one"), sandbox)
    two = await run(runtime, pod, shell("sleep 1001", "two"), sandbox)
    for kind in ("net", "ipc", "uts"):
        assert await output(runtime, one, f"stat -L -c %i /proc/self/ns/{kind}") == await output(
            runtime, two, f"stat -L -c %i /proc/self/ns/{kind}"
        )
    assert await output(runtime, one, "hostname") == pod.metadata.name
    assert "sleep 1001" not in await output(runtime, one, "ps")
    await output(runtime, one, "echo shared > /dev/shm/file")
    assert await output(runtime, two, "cat /dev/shm/file") == "shared"
    assert "65536" in await output(runtime, two, "df -k /dev/shm")


async def test_with_a_shared_process_namespace_pause_is_the_first_process_of_all(runtime: Runtime) -> None:
    pod = make_pod(share_process_namespace=True)
    sandbox = await runtime.run_sandbox(pod, 0)
    one = await run(runtime, pod, shell("sleep 1000", "one"), sandbox)
    await run(runtime, pod, shell("sleep 1001", "two"), sandbox)
    processes = await output(runtime, one, "ps")
    assert "sleep 1001" in processes
    assert "1 root" in processes.splitlines()[1] and "catatonit" in processes.splitlines()[1]


async def test_a_container_that_ends_leaves_no_process_in_a_shared_namespace(runtime: Runtime) -> None:
    pod = make_pod(share_process_namespace=True)
    sandbox = await runtime.run_sandbox(pod, 0)
    other = await run(runtime, pod, shell("sleep 1000", "other"), sandbox)
    ended = await run(runtime, pod, shell("sleep 4321 & exit 0", "ended"), sandbox)

    async def is_gone() -> bool:
        return "sleep 4321" not in await output(runtime, other, "ps")

    await eventually(is_gone)
    observed = await runtime.observe_pod(uid_of(pod))
    assert {c.name: c.phase for c in observed.containers} == {"other": Phase.RUNNING, "ended": Phase.EXITED}
    assert ended.id in {c.id for c in observed.containers}


async def test_the_pods_files_name_its_host_and_addresses(runtime: Runtime) -> None:
    pod = make_pod(
        hostname="web-0",
        host_aliases=[v1.HostAlias(ip="10.1.2.3", hostnames=["database"])],
        dns_policy="None",
        dns_config=v1.PodDNSConfig(nameservers=["10.96.0.10"], searches=["example.org"]),
    )
    container = await start(runtime, pod, shell("sleep 1000"))
    hosts = await output(runtime, container, "cat /etc/hosts")
    assert "10.244.9.7\tweb-0" in hosts and "10.1.2.3\tdatabase" in hosts
    assert await output(runtime, container, "cat /etc/hostname; hostname; echo $HOSTNAME") == "web-0\nweb-0\nweb-0"
    assert await output(runtime, container, "cat /etc/resolv.conf") == "nameserver 10.96.0.10\nsearch example.org"


async def test_the_network_is_told_which_pod_it_connects(runtime: Runtime, node: Node) -> None:
    pod = make_pod()
    sandbox = await runtime.run_sandbox(pod, 0)
    told = (node.attachments / sandbox.id).read_text()
    assert f"K8S_POD_NAME={pod.metadata.name};" in told and "K8S_POD_NAMESPACE=default;" in told


async def test_a_pod_on_the_hosts_network_has_neither_a_network_nor_a_name_of_its_own(
    runtime: Runtime, node: Node
) -> None:
    container = await start(runtime, make_pod(host_network=True), shell("sleep 1000"))
    assert node.connected() == set()
    for kind in ("net", "uts"):
        own = Path(f"/proc/{container.pid}/ns/{kind}").stat().st_ino
        assert own == Path(f"/proc/{node.containerd.pid}/ns/{kind}").stat().st_ino


async def test_a_container_is_confined_as_docker_confines_it(runtime: Runtime) -> None:
    container = await start(runtime, make_pod(), shell("sleep 1000"))
    status = await output(runtime, container, "cat /proc/self/status")
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert facts["CapBnd"] == facts["CapEff"] == "00000000a80425fb"
    assert (facts["Seccomp"], facts["NoNewPrivs"]) == ("2", "0")
    assert await output(runtime, container, "test -c /proc/keys && echo masked") == "masked"
    assert "Read-only" in await output(runtime, container, "(echo x > /proc/sys/kernel/domainname) 2>&1")
    assert "permission denied" in await output(runtime, container, "mount -t tmpfs x /tmp 2>&1")


async def test_a_security_context_is_followed(runtime: Runtime) -> None:
    context = v1.SecurityContext(
        run_as_user=1000,
        allow_privilege_escalation=False,
        read_only_root_filesystem=True,
        capabilities=v1.Capabilities(drop=["ALL"], add=["NET_BIND_SERVICE"]),
    )
    pod = make_pod(security_context=v1.PodSecurityContext(fs_group=3000, supplemental_groups=[4000]))
    container = await start(runtime, pod, shell("sleep 1000", security_context=context))
    assert (
        await output(runtime, container, "id") == "uid=1000(web) gid=1000(web) groups=1000(web),2000(extra),3000,4000"
    )
    status = await output(runtime, container, "cat /proc/self/status")
    assert "CapBnd:\t0000000000000400" in status and "NoNewPrivs:\t1" in status
    assert "Read-only" in await output(runtime, container, "touch /tmp/x 2>&1")


async def test_a_privileged_container_may_do_what_the_node_may(runtime: Runtime) -> None:
    context = v1.SecurityContext(privileged=True)
    container = await start(runtime, make_pod(), shell("sleep 1000", security_context=context))
    assert await output(runtime, container, "mount -t tmpfs x /tmp && echo mounted") == "mounted"
    assert "Seccomp:\t0" in await output(runtime, container, "cat /proc/self/status")


async def test_an_image_user_given_by_name_is_looked_up_in_the_image(runtime: Runtime) -> None:
    container = await start(runtime, make_pod(), v1.Container(name="app"), image=WEB_IMAGE)
    assert (
        await output(runtime, container, "id; pwd") == "uid=1000(web) gid=1000(web) groups=1000(web),2000(extra)\n/tmp"
    )


async def test_mounts_and_environment_reach_the_container(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "greeting").write_text("hello")
    container = await start(
        runtime,
        make_pod(),
        v1.Container(
            name="app",
            command=["sh", "-c", "echo $(WHO) $WHO '$$(WHO)' > /data/said; sleep 1000"],
            env=[v1.EnvVar(name="WHO", value="world")],
        ),
        mounts=[Mount(tmp_path, "/data"), Mount(tmp_path, "/readonly", read_only=True)],
    )
    assert await output(runtime, container, "cat /data/greeting") == "hello"
    assert "Read-only" in await output(runtime, container, "touch /readonly/x 2>&1")

    async def said() -> bool:
        return (tmp_path / "said").exists() and (tmp_path / "said").read_text() == "world world $(WHO)\n"

    await eventually(said)


async def test_what_a_container_writes_is_in_its_log(runtime: Runtime) -> None:
    container = await start(runtime, make_pod(), shell("echo to stdout; echo to stderr >&2; sleep 1000"))

    async def logged() -> bool:
        try:
            text = container.log_path.read_text()
        except FileNotFoundError:
            return False
        return "stdout F to stdout\n" in text and "stderr F to stderr\n" in text

    await eventually(logged)


async def test_the_last_words_of_a_short_lived_container_are_in_its_log(runtime: Runtime) -> None:
    pod = make_pod()
    container = await start(runtime, pod, shell("seq 1 20000"))

    async def logged() -> bool:
        return container.log_path.exists() and container.log_path.read_text().endswith("stdout F 20000\n")

    await eventually(logged)


async def test_an_exit_code_survives_the_task(runtime: Runtime) -> None:
    pod = make_pod()
    sandbox = await runtime.run_sandbox(pod, 0)
    for attempt in range(5):
        container = await run(runtime, pod, v1.Container(name="app"), sandbox, image=QUICK_IMAGE, attempt=attempt)

        async def has_exited() -> bool:
            observed = await runtime.observe_pod(uid_of(pod))
            (found,) = [c for c in observed.containers if c.id == container.id]  # noqa: B023
            return found.exit is not None and (found.exit.code, found.exit.reason) == (3, "Error")

        await eventually(has_exited)


async def test_a_command_that_is_not_there_is_an_error_and_leaves_nothing(runtime: Runtime, node: Node) -> None:
    pod = make_pod()
    sandbox = await runtime.run_sandbox(pod, 0)
    with pytest.raises(ContainerError, match="no-such-command") as caught:
        await run(runtime, pod, v1.Container(name="app", command=["no-such-command"]), sandbox)
    assert caught.value.reason == "RunContainerError"
    assert (await runtime.observe_pod(uid_of(pod))).containers == ()
    assert list(node.settings.pipes.iterdir()) == []


async def test_an_image_that_is_not_there_is_an_error_under_never(runtime: Runtime) -> None:
    with pytest.raises(ImageError) as caught:
        await runtime.ensure_image("no-such-image", "Never", pulling=lambda: None)
    assert caught.value.reason == "ErrImageNeverPull"
    with pytest.raises(ImageError) as caught:
        await runtime.ensure_image("NO such image", "Always", pulling=lambda: None)
    assert caught.value.reason == "InvalidImageName"


@pytest.mark.parametrize("after", [0, 0.02, 0.04, 0.06, 0.08])
async def test_a_network_that_fails_fails_the_sandbox_and_leaves_nothing(
    runtime: Runtime, node: Node, after: float
) -> None:
    plugin = node.settings.state_dir.parent / "bin/fixed"
    works = plugin.read_text()
    fails = f"sleep {after}; echo '{{\"code\": 100}}'; exit 1"
    plugin.write_text(f"#!/bin/sh\ncat > /dev/null; [ $CNI_COMMAND = DEL ] || {{ {fails}; }}\n")
    pod = make_pod()
    with pytest.raises(SandboxError):
        await runtime.run_sandbox(pod, 0)
    assert (await runtime.observe_pod(uid_of(pod))).sandboxes == ()
    assert node.mounts() == []
    plugin.write_text(works)
    assert (await runtime.run_sandbox(pod, 1)).addresses == ("10.244.9.7",)


async def test_many_pods_start_at_the_same_time(runtime: Runtime) -> None:
    pods = [make_pod() for _ in range(8)]
    containers = await asyncio.gather(*(start(runtime, pod, shell("sleep 1000")) for pod in pods))
    observed = await runtime.observe()
    for pod, container in zip(pods, containers, strict=True):
        assert [c.pid for c in observed[uid_of(pod)].containers] == [container.pid]
