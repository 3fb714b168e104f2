"""A client with several endpoints, for the tests of faults between hosts: it reads and watches, and tells how that was.

Run in a host's network: `python -m tests.e2e.follower CLIENT.yaml NAMESPACE`. It says "ready" when it watches, reads a
config map at now again and again, and ends when the one called "end" appears: then it prints one JSON object, with
every event of the watch, the number of reads, the longest of them, and every failure.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from podwire import config, errors
from podwire.client import Client

# Seconds between reads: a connection is never idle for long, as that of a user's program.
PAUSE = 0.1
END = "end"


class Follower:
    def __init__(self, client: Client, namespace: str) -> None:
        self.maps = client.config_maps
        self.namespace = namespace
        self.events: list[tuple[str, str, int]] = []
        self.reads = 0
        self.longest = 0.0
        self.failures: list[str] = []

    async def read(self) -> None:
        while True:
            began = time.monotonic()
            try:
                await self.maps.list(namespace=self.namespace)
                self.reads += 1
                self.longest = max(self.longest, time.monotonic() - began)
            except errors.PodwireError as error:
                self.failures.append(f"after {time.monotonic() - began:.1f} s: {error!r}")
            await asyncio.sleep(PAUSE)

    async def watch(self, resource_version: str, epoch: str) -> None:
        async for event in self.maps.watch(namespace=self.namespace, resource_version=resource_version, epoch=epoch):
            meta = event.object.metadata
            self.events.append((event.type, meta.name, int(meta.resource_version)))
            if meta.name == END:
                return

    def report(self) -> dict[str, Any]:
        return {
            "events": self.events,
            "reads": self.reads,
            "longest": self.longest,
            "failures": self.failures,
        }


async def main(file: str, namespace: str) -> None:
    given = config.load(Path(file))
    async with Client.connect(given.endpoints, tls=given.tls) as client:
        follower = Follower(client, namespace)
        listed = await client.config_maps.list(namespace=namespace)
        reading = asyncio.create_task(follower.read())
        print("ready", flush=True)
        await follower.watch(listed.resource_version, listed.epoch)
        reading.cancel()
        await asyncio.wait([reading])
    print(json.dumps(follower.report()))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
