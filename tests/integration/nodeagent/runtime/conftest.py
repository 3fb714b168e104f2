"""A node without the agent: containerd, the log pump, and a network that gives addresses but connects nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from cni.runner import Network
from nodeagent.runtime import Runtime, RuntimeSettings
from nodeagent.sandboxes.cgroups import Cgroups
from tests.integration.nodeagent.runtime import pods
from tests.integration.nodeagent.runtime.containerd_server import ContainerdServer, program
from tests.integration.nodeagent.runtime.images import busybox_image
from tests.integration.nodeagent.runtime.short_lived_agent import network_of

# A plugin that keeps, per attachment, whether it is connected, and answers an address of its own for each.
PLUGIN = """#!/bin/sh
cat > /dev/null
case $CNI_COMMAND in
ADD)
  echo "$CNI_ARGS" > {state}/$CNI_CONTAINERID
  echo '{{"cniVersion": "1.0.0", "interfaces": [{{"name": "eth0", "sandbox": "'$CNI_NETNS'"}}],
         "ips": [{{"address": "10.244.9.7/24", "interface": 0}}]}}' ;;
DEL) rm -f {state}/$CNI_CONTAINERID ;;
esac
"""


@dataclass(frozen=True)
class Node:
    """What a runtime is given, and how a test looks at it from outside."""

    settings: RuntimeSettings
    containerd: ContainerdServer
    network: Network
    attachments: Path

    def connected(self) -> set[str]:
        """The sandboxes that the network knows."""
        return {entry.name for entry in self.attachments.iterdir()}

    def mounts(self) -> list[str]:
        """The mounts below the node's folder, but containerd's own."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        found = [line.split()[4] for line in lines]
        return [mount for mount in found if mount.startswith(f"{self.settings.run_dir}/")]


@pytest.fixture(scope="session")
def containerd() -> Iterator[ContainerdServer]:
    if os.geteuid() != 0:
        pytest.skip("needs root: it starts containerd")
    root = Path(tempfile.mkdtemp(prefix="podwire-", dir="/run"))
    server = ContainerdServer(root)
    try:
        server.start()
        images = {
            pods.IMAGE: {"command": ("sleep", "1000")},
            pods.WEB_IMAGE: {"user": "web", "command": ("sleep", "1000"), "working_dir": "/tmp"},
            pods.QUICK_IMAGE: {"entrypoint": ("sh", "-c"), "command": ("exit 3",)},
        }
        for name, options in images.items():
            busybox_image(root / "image.tar", program("busybox"), name, **options)  # type: ignore[arg-type]
            server.ctr("image", "import", str(root / "image.tar"))
        yield server
    finally:
        server.close()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def logs_socket(containerd: ContainerdServer) -> Iterator[Path]:
    socket = containerd.root / "logs.sock"
    command = [sys.executable, "-m", "nodeagent.logs.pump", "--socket", str(socket)]
    pump = subprocess.Popen([*command, "--state-dir", str(containerd.root / "pump")])
    try:
        yield socket
    finally:
        pump.terminate()
        pump.wait(10)


@pytest_asyncio.fixture
async def node(containerd: ContainerdServer, logs_socket: Path) -> AsyncIterator[Node]:
    """A node of its own on the containerd that all tests share."""
    name = uuid.uuid4().hex[:8]
    root = containerd.root / name
    attachments = root / "attachments"
    attachments.mkdir(parents=True)
    plugin = root / "bin/fixed"
    plugin.parent.mkdir()
    plugin.write_text(PLUGIN.format(state=attachments))
    plugin.chmod(0o755)
    settings = RuntimeSettings(
        node_name=name,
        containerd_socket=containerd.socket,
        containerd_namespace="k8s.io",
        runc_root=root / "runc",
        state_dir=root / "state",
        run_dir=root / "run",
        log_dir=root / "logs",
        logs_socket=logs_socket,
        cgroup_parent=f"/podwire-test-{name}",
    )
    network = network_of(settings)
    yield Node(settings, containerd, network, attachments)
    network.close()
    await Cgroups.mounted().remove(settings.cgroup_parent)
    shutil.rmtree(root)


@pytest_asyncio.fixture
async def runtime(node: Node) -> AsyncIterator[Runtime]:
    """A runtime that has observed; when the test is over, its pods are removed."""
    async with Runtime(node.settings) as runtime:
        runtime.set_network(node.network)
        yield runtime
        await runtime.sweep(())


@pytest_asyncio.fixture
async def second_runtime(node: Node) -> AsyncIterator[Runtime]:
    """Another agent's on the same node, as after a kill."""
    async with Runtime(node.settings) as runtime:
        runtime.set_network(node.network)
        yield runtime
