"""A lab in use: programs and hosts that go and come back, commands on hosts, images."""

import asyncio
import io
import json
import tarfile
from pathlib import Path

import pytest

from lab import processes
from lab.errors import LabError
from lab.lab import Lab
from lab.plan import REGISTRY_PORT
from podwire.client import Client

pytestmark = pytest.mark.root

PROGRAMS = [
    ("etcd", "etcd"),
    ("registry", "registry"),
    ("controlplane", "controlplane"),
    ("node1", "containerd"),
    ("node1", "logs"),
    ("node1", "agent"),
]


async def test_up_makes_every_node_known_to_the_control_plane(lab: Lab) -> None:
    async with Client.connect(f"unix:{lab.plan.api_socket}") as client:
        nodes = await client.nodes.list()
    assert [node.metadata.name for node in nodes.items] == ["node1"]


async def test_a_second_up_changes_nothing(lab: Lab) -> None:
    before = dict(lab.running())
    await lab.up()
    assert dict(lab.running()) == before
    assert None not in before.values()


@pytest.mark.parametrize(("host", "program"), PROGRAMS)
@pytest.mark.parametrize("end", ["kill", "stop"])
async def test_a_program_that_was_ended_starts_again_and_answers(lab: Lab, host: str, program: str, end: str) -> None:
    place = lab.plan.host(host)
    before = processes.running(place.pidfile(program))
    assert before is not None
    await (lab.kill(place, program) if end == "kill" else lab.stop(place, program))
    assert not before.is_running()
    assert processes.running(place.pidfile(program)) is None
    await lab.start(place, program)
    after = processes.running(place.pidfile(program))
    assert after is not None
    assert after != before


async def test_killing_the_control_plane_leaves_none_of_its_processes(lab: Lab) -> None:
    host = lab.plan.controlplane
    await lab.kill(host, "controlplane")
    try:
        # The roles end themselves when the kernel tells them that their supervisor has.
        async with asyncio.timeout(5):
            while left := processes.inhabitants([host.netns]):
                await asyncio.to_thread(processes.wait_exit, left[0])
    finally:
        await lab.start(host, "controlplane")


async def test_killing_containerd_leaves_its_shims_and_containers_alone(lab: Lab) -> None:
    node = lab.plan.host("node1")
    image = "docker.io/library/busybox:latest"
    runc = f"--runc-root={node.run / 'runc'}"
    for command in (
        ["ctr", "image", "pull", f"--hosts-dir={node.data / 'registries'}", image],
        ["ctr", "run", "--detach", runc, f"--cgroup={node.cgroup}/x", image, "lasting", "sh", "-c", "sleep 600"],
    ):
        done = lab.run(node, command)
        assert done.returncode == 0, done.stderr
    pid = task_pid(lab)
    await lab.kill(node, "containerd")
    await lab.start(node, "containerd")
    assert task_pid(lab) == pid
    assert lab.run(node, ["ctr", "task", "kill", "--signal=SIGKILL", "lasting"]).returncode == 0
    assert lab.run(node, ["ctr", "task", "delete", "--force", "lasting"]).returncode == 0
    assert lab.run(node, ["ctr", "container", "delete", "lasting"]).returncode == 0


def task_pid(lab: Lab) -> str:
    listing = lab.run(lab.plan.host("node1"), ["ctr", "task", "list"]).stdout
    (row,) = [line.split() for line in listing.splitlines() if line.startswith("lasting ")]
    assert row[2] == "RUNNING"
    return row[1]


async def test_a_node_whose_power_was_cut_comes_back_with_its_disk(lab: Lab) -> None:
    node = lab.plan.host("node1")
    kept = node.data / "kept"
    kept.write_text("on the disk")
    await lab.kill(node)
    assert not node.run.exists()
    assert not [process for (host, _), process in lab.running().items() if host == "node1" and process]
    with pytest.raises(LabError, match=f"{lab.plan.name}/node1 is off"):
        lab.run(node, ["true"])
    await lab.start(node)
    assert None not in lab.running().values()
    assert kept.read_text() == "on the disk"
    await lab.up()


async def test_hosts_reach_each_other_and_nothing_else(lab: Lab) -> None:
    url = f"http://{lab.plan.registry.address}:{REGISTRY_PORT}/v2/"
    assert lab.run(lab.plan.client, ["curl", "--silent", "--fail", url]).returncode == 0
    routes = lab.run(lab.plan.client, ["ip", "-4", "route", "show", "default"])
    assert routes.stdout == ""


async def test_no_link_of_a_lab_is_in_the_machines_own_network(lab: Lab) -> None:
    links = {path.name for path in Path("/sys/class/net").iterdir()}
    assert not links & {"br0", *(host.name for host in lab.plan.hosts)}


async def test_a_loaded_image_is_in_the_registry_under_its_name(lab: Lab, tmp_path: Path) -> None:
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w"):
        pass
    file = tmp_path / "image.tar"
    with tarfile.open(file, mode="w") as archive:
        manifest = [{"Config": "config.json", "RepoTags": ["mine/app:3"], "Layers": ["layer.tar"]}]
        for name, content in (
            ("manifest.json", json.dumps(manifest).encode()),
            ("config.json", b'{"architecture":"amd64","os":"linux"}'),
            ("layer.tar", layer.getvalue()),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    assert await lab.load(file) == ["mine/app:3"]
    url = f"http://{lab.plan.registry.address}:{REGISTRY_PORT}/v2/mine/app/tags/list"
    answer = lab.run(lab.plan.client, ["curl", "--silent", url])
    assert json.loads(answer.stdout) == {"name": "mine/app", "tags": ["3"]}


async def test_operations_on_one_lab_run_one_after_another(lab: Lab) -> None:
    etcd = lab.plan.etcd
    await asyncio.gather(*(lab.start(etcd, "etcd") for _ in range(3)))
    assert len(processes.inhabitants([etcd.netns])) == 1
