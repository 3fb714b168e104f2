"""Calls of the API, a second: creates, gets and lists, against bare servers of the same sizes in the same run.

Every figure is of a closed loop: N clients on N connections, each with one call on its way. The rounds of the server
and of its floor follow each other directly, so that both meet the same noise. `server_us` and `etcd_us` in the
parameters are CPU time a call, which other load on the machine hardly changes; `floor_us` is the bare server's.
`echo_per_s` is how many calls of the same sizes a bare echo answers in those rounds: how fast the machine is just now.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from typing import Final

from bench.backends import Backends, bare_method, generate, running_backends
from bench.closed_loop import Job, Outcome, together
from bench.measures import Measure, percentile
from podwire import v1

IMAGE: Final = "docker.io/library/busybox:latest"
# What a create's number replaces in its name, and an update's in its annotation.
COUNTER: Final = "0000000000"
# A pod of this benchmark is this large as a client sends it.
_POD_BYTES: Final = 1024
# And this large where many are listed or watched: with what the server adds, 5,000 of them have 4.9 MB.
LISTED_POD_BYTES: Final = 800
_CLIENTS: Final = (1, 16, 64)
# Of the server, each followed by one of the floor and one of the echo.
_ROUNDS: Final = 2


def sized_pod(name: str, *, node: str = "", size: int = _POD_BYTES) -> v1.Pod:
    """A plain pod whose message has `size` bytes, by an annotation that fills it up."""
    container = v1.Container(name="main", image=IMAGE, command=["/bin/sleep", "3600"])
    container.ports.add(name="http", container_port=8080)
    container.env.add(name="ROLE", value="bench")
    spec = v1.PodSpec(containers=[container], node_name=node)
    pod = v1.Pod(metadata=v1.ObjectMeta(name=name, namespace="default"), spec=spec)
    pod.metadata.labels.update({"app": "bench", "tier": "load"})
    # Two bytes of length for the filling, and as many more for the fields around it.
    pod.metadata.annotations["bench/filling"] = "x" * 256
    pod.metadata.annotations["bench/filling"] += "x" * (size - pod.ByteSize())
    return pod


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clients", type=numbers, default=_CLIENTS, help="how many at once (1,16,64)", metavar="N,N")
    parser.add_argument("--seconds", type=float, default=2.0, help=f"of each of {_ROUNDS} rounds (%(default)s)")
    add_processes(parser)


def add_processes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--processes", type=int, default=1, help="that serve the API at one address (%(default)s)")


def add_list_options(parser: argparse.ArgumentParser) -> None:
    add_options(parser)
    parser.set_defaults(clients=(1,))
    parser.add_argument("--pods", type=int, default=5_000, help="how many there are (%(default)s)")


async def api_create(options: argparse.Namespace) -> AsyncIterator[Measure]:
    """Pods and config maps of 1 KiB, against an empty handler with the same transactions and the same group commit."""
    async with running_backends(options.processes) as backends:
        config_map = v1.ConfigMap(metadata=v1.ObjectMeta(name=f"cm-{COUNTER}", namespace="default"))
        config_map.data["filling"] = "x" * 256
        config_map.data["filling"] += "x" * (_POD_BYTES - config_map.ByteSize())
        pod = sized_pod(f"pod-{COUNTER}")
        requests = {
            "Pod": ("/podwire.v1.Pods/Create", v1.PodCreateRequest(object=pod)),
            "ConfigMap": ("/podwire.v1.ConfigMaps/Create", v1.ConfigMapCreateRequest(object=config_map)),
        }
        async with backends.client() as client:
            made = {
                "Pod": (await client.pods.create(pod)).SerializeToString(),
                "ConfigMap": (await client.config_maps.create(config_map)).SerializeToString(),
            }
        number = 1
        for kind, (path, request) in requests.items():
            await backends.set_answer(made[kind])
            body = request.SerializeToString()
            size = len(made[kind])
            for clients in options.clients:
                job = backends.job(
                    backends.api,
                    path,
                    body,
                    clients,
                    options.seconds,
                    counter_at=body.index(COUNTER.encode()),
                    counter_from=number,
                    # The revision's digits are as many as they are.
                    answer_bytes=(size - 8, size + 8),
                )
                floor = backends.job(
                    backends.bare, bare_method("Commit"), body, clients, options.seconds, answer_bytes=(size, size)
                )
                outcome, bare, echoed = await _with_floors(job, floor)
                number = outcome.counter
                params = {"kind": kind, "bytes": len(body), "clients": clients, "floor": "same transactions"}
                params |= {"processes": options.processes, "echo_per_s": _rate(echoed)}
                for measure in _measures("api_create", params, outcome, bare):
                    yield measure


async def api_get(options: argparse.Namespace) -> AsyncIterator[Measure]:
    """A pod of 1 KiB: from the cache, against a bare echo; linearizable, against one that shares a Range."""
    async with running_backends(options.processes) as backends:
        async with backends.client() as client:
            await client.pods.create(sized_pod("pod"))
            size = (await client.pods.get("pod")).ByteSize()
        await backends.set_answer(b"x" * size)
        for how, version, floor_method in (("cached", "any", "Echo"), ("linearizable", "", "FreshEcho")):
            body = v1.GetRequest(namespace="default", name="pod", resource_version=version).SerializeToString()
            for clients in options.clients:
                sizes = (size, size)
                job = backends.job(
                    backends.api, "/podwire.v1.Pods/Get", body, clients, options.seconds, answer_bytes=sizes
                )
                floor = backends.job(
                    backends.bare, bare_method(floor_method), body, clients, options.seconds, answer_bytes=sizes
                )
                outcome, bare, echoed = await _with_floors(job, floor)
                params = {"read": how, "bytes": size, "clients": clients, "floor": floor_method}
                params |= {"processes": options.processes, "echo_per_s": _rate(echoed)}
                for measure in _measures("api_get", params, outcome, bare):
                    yield measure


async def api_list(options: argparse.Namespace) -> AsyncIterator[Measure]:
    """All pods, from the cache: milliseconds to the last byte of the last page."""
    async with running_backends(options.processes) as backends:
        await create_pods(backends, options.pods)
        body = v1.ListRequest(resource_version="any").SerializeToString()
        least = options.pods * LISTED_POD_BYTES
        for clients in options.clients:
            job = backends.job(
                backends.api,
                "/podwire.v1.Pods/List",
                body,
                clients,
                options.seconds,
                answer_bytes=(least, least * 2),
                pages=True,
            )
            outcome = await generate(job)
            # As many bytes in as many messages, one after another.
            size = outcome.answer_bytes // outcome.answer_messages
            await backends.set_answer(bytes(size))
            floor = backends.job(
                backends.bare,
                bare_method("Echo"),
                body,
                clients,
                options.seconds,
                answer_bytes=(size * outcome.answer_messages,) * 2,
                requests=outcome.answer_messages,
            )
            bare = await generate(floor)
            params = {
                "pods": options.pods,
                "bytes": outcome.answer_bytes,
                "pages": outcome.answer_messages,
                "clients": clients,
                "processes": options.processes,
                "floor": "Echo",
            }
            for measure in _measures("api_list", params, outcome, bare):
                yield measure


async def create_pods(backends: Backends, count: int, *, size: int = LISTED_POD_BYTES) -> None:
    """Fills the store, 64 at a time, with pods that no node has."""
    async with backends.client() as client:
        turns = asyncio.Semaphore(64)

        async def create(number: int) -> None:
            async with turns:
                await client.pods.create(sized_pod(f"pod-{number:010}", size=size))

        async with asyncio.TaskGroup() as owner:
            for number in range(count):
                owner.create_task(create(number), name=f"create {number}")


async def _with_floors(job: Job, floor: Job) -> tuple[Outcome, Outcome, Outcome]:
    """The server's, its floor's, and the bare echo's, which may be the floor."""
    echo = replace(floor, path=bare_method("Echo"))
    outcome, bare, *more = await _in_turns(job, floor, *([echo] if echo != floor else []))
    return outcome, bare, more[0] if more else bare


async def _in_turns(*jobs: Job) -> list[Outcome]:
    """Each in several rounds, one after another."""
    rounds: list[list[Outcome]] = [[] for _ in jobs]
    for _ in range(_ROUNDS):
        for job, before in zip(jobs, rounds, strict=True):
            counter = before[-1].counter if before else job.counter_from
            before.append(await generate(replace(job, counter_from=counter)))
    return [together(outcomes) for outcomes in rounds]


def _rate(outcome: Outcome) -> float:
    return round(len(outcome.milliseconds) / outcome.seconds, 1)


def _measures(name: str, params: Mapping[str, object], outcome: Outcome, bare: Outcome) -> Iterator[Measure]:
    """The rate, and the times of single calls, each against the floor's."""
    calls, bare_calls = len(outcome.milliseconds), len(bare.milliseconds)
    used = {f"{process}_us": round(seconds * 1e6 / calls, 1) for process, seconds in outcome.cpu_seconds.items()}
    used["floor_us"] = round(bare.cpu_seconds["server"] * 1e6 / bare_calls, 1)
    params = {**params, **used}
    yield Measure(name, "calls/s", params, floor=bare_calls / bare.seconds, value=calls / outcome.seconds)
    yield Measure(
        f"{name}_latency", "ms", params, floor=percentile(bare.milliseconds, 0.5), samples=outcome.milliseconds
    )


def numbers(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers: write it as 1,16,64") from None
    if min(found) < 1:
        raise argparse.ArgumentTypeError("there must be at least one client")
    return found
