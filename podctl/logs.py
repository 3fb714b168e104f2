"""`podctl logs`."""

from __future__ import annotations

import sys
from contextlib import aclosing
from dataclasses import dataclass

from podctl.session import Session
from podctl.workloads import choose_container, find_pod
from podwire import v1


@dataclass(frozen=True, slots=True)
class Request:
    target: str
    container: str = ""
    follow: bool = False
    tail: int = -1
    timestamps: bool = False
    previous: bool = False


async def logs(session: Session, request: Request) -> int:
    pod = await find_pod(session, request.target)
    message = v1.LogsRequest(
        namespace=pod.metadata.namespace,
        name=pod.metadata.name,
        container=choose_container(pod, request.container),
        follow=request.follow,
        timestamps=request.timestamps,
        previous=request.previous,
    )
    if request.tail >= 0:
        message.tail_lines = request.tail
    output = sys.stdout.buffer
    async with aclosing(session.client.pods.logs(message)) as chunks:
        async for chunk in chunks:
            output.write(chunk)
            output.flush()
    return 0
