"""Traffic for the tests of faults: new connections and one that stays open, counted, until stdin ends.

Run in a host's network: `python -m tests.e2e.traffic URL`. Prints one JSON object: requests made on new connections, on
the kept one, and every failure with the second it happened at.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from urllib.parse import urlsplit

# Between requests, seconds: some twenty a second on each kind of connection.
PAUSE = 0.05
TIMEOUT = 5.0


class Traffic:
    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.port, self.path = parts.hostname or "", parts.port or 80, parts.path or "/"
        self.began = time.monotonic()
        self.fresh = 0
        self.kept = 0
        self.failures: list[str] = []

    async def request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"GET {self.path} HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode())
        await writer.drain()
        status = await reader.readline()
        if b" 200 " not in status:
            raise ConnectionError(f"answered {status!r}")
        length = 0
        while (line := await reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        await reader.readexactly(length)

    def failed(self, what: str, error: Exception) -> None:
        self.failures.append(f"{what} after {time.monotonic() - self.began:.2f} s: {error!r}")

    async def new_connections(self) -> None:
        while True:
            try:
                async with asyncio.timeout(TIMEOUT):
                    reader, writer = await asyncio.open_connection(self.host, self.port)
                    await self.request(reader, writer)
                    writer.close()
                self.fresh += 1
            except (OSError, EOFError, TimeoutError) as error:
                self.failed("a new connection", error)
            await asyncio.sleep(PAUSE)

    async def one_connection(self) -> None:
        # nginx closes a connection after 1,000 requests; long before that it is renewed on purpose.
        while True:
            reader, writer = await asyncio.open_connection(self.host, self.port)
            for _ in range(900):
                try:
                    async with asyncio.timeout(TIMEOUT):
                        await self.request(reader, writer)
                    self.kept += 1
                except (OSError, EOFError, TimeoutError) as error:
                    self.failed("the established connection", error)
                    break
                await asyncio.sleep(PAUSE)
            writer.close()


async def main(url: str) -> None:
    traffic = Traffic(url)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tasks = [asyncio.create_task(traffic.new_connections()), asyncio.create_task(traffic.one_connection())]
    await reader.read()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    print(json.dumps({"fresh": traffic.fresh, "kept": traffic.kept, "failures": traffic.failures}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
