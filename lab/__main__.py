"""`podwire-lab`: several nodes on one Linux machine, each a network namespace with programs of its own."""

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from lab import cuts, network
from lab.errors import LabError
from lab.lab import CHECKOUT, Lab
from lab.plan import DEFAULT_NAME, Host, all_saved
from lab.programs import environment

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help=__doc__)
_out = Console()
_err = Console(stderr=True)

NameOption = Annotated[str, typer.Option("--name", help="Name of the lab.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the lab.")]
HostArgument = Annotated[str, typer.Argument(metavar="NAME/HOST", help=f"A host; without NAME/, of {DEFAULT_NAME}.")]
ProgramArgument = Annotated[
    str | None, typer.Argument(metavar="[PROGRAM]", help="agent, logs, containerd, controlplane, etcd or registry.")
]


@app.command()
def up(
    nodes: Annotated[int | None, typer.Option(help="How many nodes; 2, or as many as it has.")] = None,
    controlplanes: Annotated[int | None, typer.Option(help="How many replicas of the control plane; 1.")] = None,
    etcd: Annotated[int | None, typer.Option(help="How many members etcd has: 1, 3, 5 or 7; 1.")] = None,
    name: NameOption = DEFAULT_NAME,
) -> None:
    """Start a lab, or what does not run of it."""
    began = time.monotonic()

    def report(text: str) -> None:
        _err.print(f"· {text} ({time.monotonic() - began:.1f} s)", style="dim")

    lab = Lab.wanted(name, nodes, controlplanes=controlplanes, etcd_members=etcd, report=report)
    asyncio.run(lab.up())
    _out.print(f"lab {name} is up: {lab.plan.nodes} nodes, {time.monotonic() - began:.1f} s")


@app.command()
def down(
    name: NameArgument = DEFAULT_NAME,
    every: Annotated[bool, typer.Option("--all", help="All labs that were started from this folder.")] = False,
) -> None:
    """Stop a lab and remove every trace of it."""
    ours = [plan.name for plan in all_saved() if plan.checkout == str(CHECKOUT)]
    for lab in [Lab.existing(name) for name in (ours if every else [name])]:
        asyncio.run(lab.down())
        _out.print(f"lab {lab.plan.name} is gone")


@app.command("list")
def list_labs() -> None:
    """List the labs of this machine."""
    table = _table("NAME", "NODES", "STATE", "CHECKOUT")
    for plan in all_saved():
        running = Lab(plan).running().values()
        state = "up" if all(running) and plan.client_config.exists() else "partly" if any(running) else "off"
        table.add_row(plan.name, str(plan.nodes), state, plan.checkout)
    _out.print(table)


@app.command()
def status(name: NameArgument = DEFAULT_NAME) -> None:
    """Show a lab's hosts, what runs on them, and which packets between them are dropped."""
    lab = Lab.existing(name)
    running = lab.running()
    dropped = cuts.saved(lab.plan)
    table = _table("HOST", "ADDRESS", "PROGRAM", "PID", "STATE", "UP")
    for host in lab.plan.hosts:
        for program in host.programs or ("",):
            process = running.get((host.name, program))
            state = "running" if process else "stopped" if program else "on" if network.is_on(host.netns) else "off"
            table.add_row(
                host.name,
                str(host.address),
                program,
                str(process.pid) if process else "",
                state,
                f"{process.age():.0f}s" if process else "",
            )
    _out.print(table)
    for cut in sorted(dropped):
        _out.print(f"cut: {cut}", highlight=False)


@app.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def execute(host: HostArgument, command: Annotated[list[str], typer.Argument(metavar="-- COMMAND")]) -> None:
    """Run a command on a host."""
    lab, place = _place(host)
    argv = lab.command(place, command[1:] if command[0] == "--" else command)
    os.execvpe(argv[0], argv, environment(place))


@app.command()
def load(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the lab.")],
    image: Annotated[Path, typer.Argument(metavar="IMAGE.TAR", exists=True, dir_okay=False)],
) -> None:
    """Put the images of a tar file (`docker save`, `podman save`, OCI layout) into the lab's registry."""
    for loaded in asyncio.run(Lab.existing(name).load(image)):
        _out.print(f"loaded {loaded}")


@app.command()
def start(host: HostArgument, program: ProgramArgument = None) -> None:
    """Start a host that was stopped or killed, or one program of it."""
    lab, place = _place(host)
    asyncio.run(lab.start(place, _program(lab, place, program)))


@app.command()
def stop(host: HostArgument, program: ProgramArgument = None) -> None:
    """Shut a host down, or end one program of it in order."""
    lab, place = _place(host)
    asyncio.run(lab.stop(place, _program(lab, place, program)))


@app.command()
def kill(host: HostArgument, program: ProgramArgument = None) -> None:
    """Cut a host's power, or kill one program of it with SIGKILL."""
    lab, place = _place(host)
    asyncio.run(lab.kill(place, _program(lab, place, program)))


SourcesOption = Annotated[list[str], typer.Option("--from", metavar="PEER", help="What comes from this host.")]
TargetsOption = Annotated[list[str], typer.Option("--to", metavar="PEER", help="What goes to this host.")]
ArrivingOption = Annotated[bool, typer.Option("--in", help="All that arrives at the host.")]
LeavingOption = Annotated[bool, typer.Option("--out", help="All that leaves the host.")]


@app.command()
def cut(
    host: HostArgument,
    sources: SourcesOption = [],  # noqa: B006 - what typer makes a list of
    targets: TargetsOption = [],  # noqa: B006
    arriving: ArrivingOption = False,
    leaving: LeavingOption = False,
) -> None:
    """Drop a host's packets, silently: all, or those of one direction or peer. Sockets on the machine go on."""
    lab, place = _place(host)
    wanted = cuts.chosen(lab.plan, place, sources=sources, targets=targets, arriving=arriving, leaving=leaving)
    asyncio.run(lab.cut(wanted))


@app.command()
def mend(
    host: HostArgument,
    sources: SourcesOption = [],  # noqa: B006 - what typer makes a list of
    targets: TargetsOption = [],  # noqa: B006
    arriving: ArrivingOption = False,
    leaving: LeavingOption = False,
) -> None:
    """Let a host's packets through again: all, or those that a `cut` with the same options dropped."""
    lab, place = _place(host)
    if sources or targets or arriving or leaving:
        named = cuts.chosen(lab.plan, place, sources=sources, targets=targets, arriving=arriving, leaving=leaving)
    else:
        named = cuts.of_host(cuts.saved(lab.plan), place)
    asyncio.run(lab.mend(named))


@app.command()
def logs(
    host: HostArgument,
    program: ProgramArgument = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as more is written.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many lines to begin with.")] = 50,
) -> None:
    """Show what a host's programs have logged."""
    lab, place = _place(host)
    chosen = place.programs if program is None else (lab.plan.program(place, program),)
    files = [str(place.log(name)) for name in chosen if place.log(name).exists()]
    if not files:
        raise LabError(f"nothing has been logged on {lab.plan.name}/{place.name}")
    os.execvp("tail", ["tail", f"--lines={lines}", *(["--follow=name"] if follow else []), *files])


def main() -> None:
    """Entry point of `podwire-lab`."""
    try:
        app()
    except (LabError, OSError) as error:
        _fail(str(error))


def _place(text: str) -> tuple[Lab, Host]:
    """A host from `NAME/HOST`, or `HOST` of the default lab."""
    name, slash, host = text.partition("/")
    lab = Lab.existing(name if slash else DEFAULT_NAME)
    return lab, lab.plan.host(host if slash else name)


def _program(lab: Lab, host: Host, name: str | None) -> str | None:
    return None if name is None else lab.plan.program(host, name)


def _table(*columns: str) -> Table:
    table = Table(*columns, box=None, pad_edge=False, header_style="")
    for column in table.columns:
        column.no_wrap = True
    return table


def _fail(message: str) -> NoReturn:
    _err.print(f"podwire-lab: {message}", style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
