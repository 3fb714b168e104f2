"""Starts a pod as an agent would, and is killed meanwhile: `python -m … SETTINGS POD`, both pickled and hexadecimal."""

from __future__ import annotations

import asyncio
import pickle
import sys

from cni import conflist
from cni.runner import Network
from nodeagent.runtime import Runtime, RuntimeSettings
from podwire import v1
from tests.integration.nodeagent.runtime.pods import run, shell


def network_of(settings: RuntimeSettings) -> Network:
    """The network of a test's node: the plugin in its folder, and what it keeps there."""
    root = settings.state_dir.parent
    raw = {"name": "test", "cniVersion": "1.0.0", "plugins": [{"type": "fixed"}]}
    return Network(conflist.parse(raw, "the test"), state_dir=root / "cni", bin_dirs=[root / "bin"])


async def start(settings: RuntimeSettings, pod: v1.Pod) -> None:
    async with Runtime(settings) as runtime:
        runtime.set_network(network_of(settings))
        await runtime.version()
        print("ready", flush=True)
        sandbox = await runtime.run_sandbox(pod, 0)
        container = await run(runtime, pod, shell("sleep 1000"), sandbox)
        await runtime.exec_probe(container, ["sleep", "1000"], 1000)


if __name__ == "__main__":
    settings, pod = (bytes.fromhex(argument) for argument in sys.argv[1:])
    asyncio.run(start(pickle.loads(settings), v1.Pod.FromString(pod)))
