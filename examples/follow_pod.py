"""Creates a pod and follows it to its end: `.venv/bin/python examples/follow_pod.py`, with a lab up."""

import asyncio

from podwire import config, v1
from podwire.client import Client


async def main() -> None:
    container = v1.Container(name="hello", image="alpine", args=["echo", "hello"])
    spec = v1.PodSpec(containers=[container], restart_policy="Never")
    found = config.load()
    async with Client.connect(found.endpoints, tls=found.tls) as client:
        pod = await client.pods.create(v1.Pod(metadata=v1.ObjectMeta(name="hello", namespace="default"), spec=spec))
        this_pod = f"metadata.name={pod.metadata.name}"
        async for event in client.pods.watch(namespace="default", field_selector=this_pod, send_initial_events=True):
            if event.type != "BOOKMARK":
                print(event.type, event.object.status.phase)
            if event.object.status.phase in ("Succeeded", "Failed"):
                return


asyncio.run(main())
