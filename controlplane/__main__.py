"""`podwire-controlplane`: the processes of the control plane, one a role, or several under a supervisor."""

from __future__ import annotations

import argparse
import asyncio
import gc
import ipaddress
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from controlplane import elected, logging
from controlplane.election import LockedError
from controlplane.event_loop import Loop
from controlplane.settings import (
    POD_CIDR,
    SERVICE_CIDR,
    ApiSettings,
    ElectedSettings,
    EtcdSettings,
    LoadLimits,
    NodePortRange,
    UpkeepSettings,
    parse_history,
)
from controlplane.shared_address import AddressTakenError, check_free, held
from controlplane.supervisor import Child, die_with_parent, supervise
from podwire.client import Tls

_RUN_DIR: Final = Path("/run/podwire")
ELECTED_ROLES: Final = ("scheduler", "controllers")
_DESCRIPTIONS: Final = {
    "all": "the three roles as child processes; one that dies is started again",
    "api": "serves the API on etcd; several processes of it are children, which are started again when they die",
    "scheduler": "gives pods to nodes, while elected",
    "controllers": "makes what is there come closer to what is asked for, while elected",
}


class Settings(NamedTuple):
    api: ApiSettings
    # Where several processes serve the API at one address: those of each.
    processes: tuple[ApiSettings, ...]
    elected: ElectedSettings
    upkeep: UpkeepSettings


def main() -> None:
    die_with_parent()
    arguments = sys.argv[1:]
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        settings = _settings(options)
    except ValueError as wrong:
        parser.error(str(wrong))
    logging.configure(options.log_format, role=_own_name(options))
    children = _children(options)
    try:
        if children:
            with _addresses(settings):
                # The role is the first argument; the children get the others, and so the same settings.
                asyncio.run(supervise(children, arguments[1:]))
        else:
            with asyncio.Runner(loop_factory=Loop) as runner:
                runner.run(_until_stopped(_RUN[options.role](settings)))
            # At the end of a process gRPC waits for two seconds for what nobody has freed; a server has frozen its own.
            gc.unfreeze()
            gc.collect()
    except (LockedError, AddressTakenError) as wrong:
        sys.exit(f"podwire-controlplane: {wrong}")


def _children(options: argparse.Namespace) -> list[Child]:
    """What this process supervises; nothing, where it does the work itself."""
    several = [
        Child(_api_name(number), ("api", f"--process-number={number}"))
        for number in range(options.processes)
        if options.processes > 1 and options.process_number is None
    ]
    match options.role:
        case "all":
            return [*(several or [Child("api", ("api",))]), *(Child(role, (role,)) for role in ELECTED_ROLES)]
        case "api":
            return several
        case _:
            return []


@contextmanager
def _addresses(settings: Settings) -> Iterator[None]:
    """What is in the way of several processes shows at once, and nobody gets in between them later."""
    if not settings.processes:
        # The one that serves finds out by itself.
        yield
        return
    assert settings.api.listen is not None
    with held(settings.api.listen):
        for process in settings.processes:
            assert process.own_listen is not None
            check_free(process.own_listen)
        yield


def _own_name(options: argparse.Namespace) -> str:
    """In every line of the log."""
    name: str = options.role
    return name if options.process_number is None else _api_name(options.process_number)


def _api_name(number: int) -> str:
    return f"api-{number}"


async def _until_stopped(role: Coroutine[Any, Any, None]) -> None:
    """SIGTERM and SIGINT cancel the role, which then gives up what it holds: its election, its listeners."""
    running = asyncio.create_task(role)
    stopping = asyncio.Event()

    def stop() -> None:
        stopping.set()
        running.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    try:
        await running
    except asyncio.CancelledError:
        if not stopping.is_set():
            raise


# Each process imports what its role needs and nothing else: that is what a restart waits for.


async def _api(settings: Settings) -> None:
    from controlplane.server import serve

    await serve(settings.api)


async def _scheduler(settings: Settings) -> None:
    from controlplane.scheduler.scheduler import Scheduler

    await elected.run("scheduler", settings.elected, lambda client: Scheduler(client).run())


async def _controllers(settings: Settings) -> None:
    from controlplane.controllers import role
    from controlplane.upkeep.role import keeping

    await elected.run("controllers", settings.elected, role.run, beside=keeping(settings.upkeep))


_RUN: Final[Mapping[str, Callable[[Settings], Coroutine[Any, Any, None]]]] = {
    "api": _api,
    "scheduler": _scheduler,
    "controllers": _controllers,
}


def _settings(options: argparse.Namespace) -> Settings:
    """Raises ValueError with what is wrong."""
    etcd = EtcdSettings(tuple(options.etcd.split(",")), _tls(options, "etcd"))
    tls = _tls(options, "tls")
    if options.listen and tls is None:
        raise ValueError("--listen needs --tls-ca, --tls-cert and --tls-key: addresses are served with TLS only")
    socket = options.socket or options.run_dir / "api.sock"
    api = ApiSettings(
        etcd=etcd,
        socket=socket,
        listen=options.listen,
        advertise=options.advertise or options.listen,
        tls=tls,
        service_cidr=options.service_cidr,
        pod_cidr=options.pod_cidr,
        node_ports=options.node_port_range,
        metrics=options.metrics,
        limits=_limits(options),
    )
    processes: tuple[ApiSettings, ...] = ()
    if options.processes > 1:
        processes = tuple(api.of_process(number) for number in range(options.processes))
    if options.process_number is not None:
        api = processes[options.process_number]
    endpoints = tuple(f"unix:{process.socket}" for process in processes or (api,))
    if options.api:
        endpoints = tuple(options.api.split(","))
    return Settings(
        api,
        processes,
        ElectedSettings(etcd=etcd, api=endpoints, tls=tls, run_dir=options.run_dir),
        UpkeepSettings(history=options.history, metrics=options.upkeep_metrics),
    )


def _limits(options: argparse.Namespace) -> LoadLimits:
    defaults = LoadLimits()
    return LoadLimits(
        requests=defaults.requests.resized(options.max_requests, options.max_requests_per_user),
        streams=defaults.streams.resized(options.max_streams, options.max_streams_per_user),
        answer_bytes=defaults.answer_bytes.resized(options.max_list_mib << 20, options.max_list_mib << 20),
        reading=options.max_read_seconds,
    )


def _tls(options: argparse.Namespace, which: str) -> Tls | None:
    files = [getattr(options, f"{which}_{part}") for part in ("ca", "cert", "key")]
    if not any(files):
        return None
    if not all(files):
        raise ValueError(f"--{which}-ca, --{which}-cert and --{which}-key belong together: give all three or none")
    return Tls(*files)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="podwire-controlplane", description=__doc__)
    roles = parser.add_subparsers(dest="role", required=True, metavar="ROLE")
    for role in ("all", "api", *ELECTED_ROLES):
        _add_options(roles.add_parser(role, help=_DESCRIPTIONS[role], description=_DESCRIPTIONS[role]))
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    """Every role takes all of them, so that one command line serves `all` and its children."""

    def add(group: Any, names: Sequence[str], text: str, **more: Any) -> None:
        group.add_argument(*names, help=text, **more)

    state = parser.add_argument_group("etcd")
    add(state, ["--etcd"], "endpoints of etcd, as http://10.0.0.1:2379", metavar="URL[,URL]", required=True)
    add(state, ["--etcd-ca"], "CA of etcd's certificates", type=Path, metavar="FILE")
    add(state, ["--etcd-cert"], "certificate that etcd is shown", type=Path, metavar="FILE")
    add(state, ["--etcd-key"], "its key", type=Path, metavar="FILE")
    api = parser.add_argument_group("API")
    add(api, ["--listen"], "address to serve TLS on; without it, the socket alone", metavar="HOST:PORT")
    add(api, ["--socket"], "unix socket for the local administrator (RUN_DIR/api.sock)", type=Path, metavar="PATH")
    text = "how many processes serve the address; each has one of its own too, in the ports above (%(default)s)"
    add(api, ["--processes"], text, type=_positive, default=1, metavar="N")
    # For the supervisor of several: which of them this one is.
    add(api, ["--process-number"], argparse.SUPPRESS, type=int)
    add(api, ["--advertise"], "address where other replicas reach this one (as --listen)", metavar="HOST:PORT")
    add(api, ["--tls-ca"], "CA whose certificates clients must show", type=Path, metavar="FILE")
    add(api, ["--tls-cert"], "certificate to show", type=Path, metavar="FILE")
    add(api, ["--tls-key"], "its key", type=Path, metavar="FILE")
    network = ipaddress.IPv4Network
    add(api, ["--service-cidr"], "cluster addresses (%(default)s)", type=network, default=SERVICE_CIDR, metavar="CIDR")
    add(
        api, ["--pod-cidr"], "pod addresses, a /24 a node (%(default)s)", type=network, default=POD_CIDR, metavar="CIDR"
    )
    ports = NodePortRange()
    add(
        api,
        ["--node-port-range"],
        f"ports of NodePort services ({ports.first}-{ports.last})",
        type=_node_ports,
        default=ports,
        metavar="FIRST-LAST",
    )
    load = parser.add_argument_group("load", "what a replica takes on before it refuses with OVERLOADED")
    limits = LoadLimits()
    for flag, text, default in (
        ("--max-requests", "requests in flight, a third of them the system's", limits.requests.total),
        ("--max-requests-per-user", "of these, one user's", limits.requests.user),
        ("--max-streams", "open watches, sessions, logs and execs, a third of them the system's", limits.streams.total),
        ("--max-streams-per-user", "of these, one user's", limits.streams.user),
        ("--max-list-mib", "MiB of lists on their way to clients", limits.answer_bytes.total >> 20),
        ("--max-read-seconds", "for a client to take a page of a list or a batch of a watch", int(limits.reading)),
    ):
        add(load, [flag], f"{text} (%(default)s)", type=_positive, default=default, metavar="N")
    add(api, ["--metrics"], "address to serve Prometheus' metrics on, without TLS", metavar="HOST:PORT")
    others = parser.add_argument_group("scheduler and controllers")
    add(others, ["--api"], "endpoints of the API (the socket)", metavar="ENDPOINT[,ENDPOINT]")
    upkeep = parser.add_argument_group("upkeep of etcd, by the elected controllers")
    history = UpkeepSettings().history
    text = "how much of the past is kept, at least 30s (5m)"
    add(upkeep, ["--history"], text, type=_history, default=history, metavar="TIME")
    text = "address to serve metrics of etcd and its upkeep on, without TLS"
    add(upkeep, ["--upkeep-metrics"], text, metavar="HOST:PORT")
    add(parser, ["--run-dir"], "folder for sockets and locks (%(default)s)", type=Path, default=_RUN_DIR, metavar="DIR")
    add(parser, ["--log-format"], "text or json (%(default)s)", choices=("text", "json"), default="text")


def _history(text: str) -> float:
    try:
        return parse_history(text)
    except ValueError as wrong:
        raise argparse.ArgumentTypeError(str(wrong)) from None


def _positive(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _node_ports(text: str) -> NodePortRange:
    try:
        return NodePortRange.parse(text)
    except ValueError as wrong:
        raise argparse.ArgumentTypeError(str(wrong)) from None


if __name__ == "__main__":
    main()
