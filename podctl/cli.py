"""The commands and their options. What a command does is in the module of its verb, imported when it is called.

Nothing here imports gRPC, so that help and mistyped options are answered at once.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any

import typer

from podctl import options
from podctl.options import Globals
from podctl.parsing import Command, ExecCommand

if TYPE_CHECKING:
    from podctl.session import Session

app = typer.Typer(
    name="podctl",
    help="Talks to a Podwire control plane, with the habits of kubectl.",
    no_args_is_help=True,
    add_completion=False,
    # Plain help and one-line errors, as scripts and kubectl's users expect; rich would cost start-up time as well.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
create_app = typer.Typer(rich_markup_mode=None, invoke_without_command=True)
rollout_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
app.add_typer(create_app, name="create", help="Create objects that are not there yet.")
app.add_typer(rollout_app, name="rollout", help="Follow the rollout of a deployment.")


@app.callback()
def remember(ctx: typer.Context, config: options.Config = None, namespace: options.Namespace = None) -> None:
    ctx.obj = Globals(config, namespace)


@app.command(cls=Command)
def apply(
    ctx: typer.Context,
    filename: options.Files = None,
    recursive: options.Recursive = False,
    dry_run: options.DryRun = "none",
    output: options.Output = "",
    config: options.Config = None,
    namespace: options.Namespace = None,
) -> None:
    """Create objects, or change them to what manifests say."""
    from podctl.applying import apply

    _run(
        ctx,
        config,
        namespace,
        lambda session: apply(session, filename or [], recursive=recursive, dry_run=dry_run, output=output),
    )


@create_app.callback()
def create(
    ctx: typer.Context,
    filename: options.Files = None,
    recursive: options.Recursive = False,
    dry_run: options.DryRun = "none",
    output: options.Output = "",
    config: options.Config = None,
    namespace: options.Namespace = None,
) -> None:
    if ctx.invoked_subcommand:
        ctx.obj = ctx.obj.overridden(config, namespace)
        return
    from podctl.applying import create

    _run(
        ctx,
        config,
        namespace,
        lambda session: create(session, filename or [], recursive=recursive, dry_run=dry_run, output=output),
    )


@create_app.command("namespace", cls=Command)
@create_app.command("ns", cls=Command, hidden=True)
def create_namespace(
    ctx: typer.Context,
    name: str,
    dry_run: options.DryRun = "none",
    output: options.Output = "",
    config: options.Config = None,
) -> None:
    """Create a namespace."""
    from podctl.applying import create_namespace

    _run(ctx, config, None, lambda session: create_namespace(session, name, dry_run=dry_run, output=output))


@app.command(cls=Command)
def get(
    ctx: typer.Context,
    words: options.Words = None,
    output: options.Output = "",
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Go on with every change.")] = False,
    selector: options.Labels = "",
    field_selector: options.Fields = "",
    all_namespaces: options.AllNamespaces = False,
    no_headers: options.NoHeaders = False,
    show_labels: Annotated[bool, typer.Option("--show-labels", help="A column with all labels.")] = False,
    ignore_not_found: options.IgnoreNotFound = False,
    config: options.Config = None,
    namespace: options.Namespace = None,
) -> None:
    """Show objects: `get pods`, `get pod web -o yaml`, `get deploy/web svc/web`, `get pods,services -A`, `get all`."""
    from podctl.getting import Selection, View, get
    from podctl.output import check_format

    async def command(session: Session) -> int:
        view = View(check_format(output), all_namespaces, no_headers, show_labels)
        selection = Selection(selector, field_selector, ignore_not_found)
        return await get(session, words or [], selection, view, watch=watch)

    _run(ctx, config, namespace, command)


@app.command(cls=Command)
def describe(
    ctx: typer.Context,
    words: options.Words = None,
    selector: options.Labels = "",
    all_namespaces: options.AllNamespaces = False,
    config: options.Config = None,
    namespace: options.Namespace = None,
) -> None:
    """Show all that is known of objects, with their events."""
    from podctl.describing import describe

    _run(
        ctx,
        config,
        namespace,
        lambda session: describe(session, words or [], labels=selector, all_namespaces=all_namespaces),
    )


@app.command(cls=Command)
def delete(
    ctx: typer.Context,
    words: options.Words = None,
    filename: options.Files = None,
    recursive: options.Recursive = False,
    selector: options.Labels = "",
    field_selector: options.Fields = "",
    everything: options.Everything = False,
    all_namespaces: options.AllNamespaces = False,
    ignore_not_found: options.IgnoreNotFound = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Return when the objects are gone.")] = True,
    timeout: Annotated[str, typer.Option(metavar="TIME", help="Wait so long at most; 0: without end.")] = "0",
    grace_period: Annotated[int | None, typer.Option(metavar="SECONDS", help="Between SIGTERM and SIGKILL.")] = None,
    now: Annotated[bool, typer.Option("--now", help="A grace period of 1 s.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Remove the object at once, whatever its node does.")] = False,
    output: Annotated[str, typer.Option("-o", "--output", metavar="name", help="Only the names.")] = "",
    config: options.Config = None,
    namespace: options.Namespace = None,
) -> None:
    """Delete objects by name, by file, by label, or all of a type."""
    from podctl.deleting import Request, delete
    from podctl.durations import parse_duration

    async def command(session: Session) -> int:
        request = Request(
            words=words or [],
            files=filename or [],
            recursive=recursive,
            labels=selector,
            fields=field_selector,
            everything=everything,
            all_namespaces=all_namespaces,
            ignore_not_found=ignore_not_found,
            wait=wait,
            timeout=parse_duration(timeout) or None,
            grace_period=grace_period,
            now=now,
            force=force,
            output=output,
        )
        return await delete(session, request)

    _run(ctx, config, namespace, command)


@app.command(cls=Command)
def logs(
    ctx: typer.Context,
    target: Annotated[str, typer.Argument(metavar="POD | TYPE/NAME")],
    container_name: Annotated[str, typer.Argument(metavar="[CONTAINER]", show_default=False)] = "",
    container: options.Container = "",
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the container ends.")] = False,
    tail: Annotated[int, typer.Option(metavar="LINES", help="Only so many lines from the end; -1: all.")] = -1,
    timestamps: Annotated[bool, typer.Option("--timestamps", help="Begin each line with its time.")] = False,
    previous: Annotated[bool, typer.Option("-p", "--previous", help="Of the run before the current one.")] = False,
    config: options.Config = None,
    namespace: options.Namespace = None,
) -> None:
    """Show what a container writes."""
    from podctl.logs import Request, logs

    request = Request(target, container or container_name, follow, tail, timestamps, previous)
    _run(ctx, config, namespace, lambda session: logs(session, request))


@app.command("exec", cls=ExecCommand)
def execute(
    ctx: typer.Context,
    target: Annotated[str, typer.Argument(metavar="POD | TYPE/NAME")],
    command: Annotated[list[str], typer.Argument(metavar="[--] COMMAND…")],
    container: options.Container = "",
    stdin: Annotated[bool, typer.Option("-i", "--stdin", help="Pass stdin on.")] = False,
    tty: Annotated[bool, typer.Option("-t", "--tty", help="stdin is a terminal.")] = False,
    config: options.Config = None,
    namespace: options.Namespace = None,
) -> None:
    """Run a command in a container; its exit status is podctl's. Options after the command's name are its own."""
    from podctl.executing import execute

    _run(
        ctx,
        config,
        namespace,
        lambda session: execute(session, target, command, container=container, stdin=stdin, terminal=tty),
    )


@app.command(cls=Command)
def wait(
    ctx: typer.Context,
    for_: Annotated[str, typer.Option("--for", help="delete, create, condition=Ready, jsonpath={PATH}=VALUE")],
    words: options.Words = None,
    selector: options.Labels = "",
    everything: options.Everything = False,
    timeout: Annotated[str, typer.Option(metavar="TIME", help="0: look once; negative: a week.")] = "30s",
    config: options.Config = None,
    namespace: options.Namespace = None,
) -> None:
    """Wait until objects are as asked for."""
    from podctl.durations import parse_duration
    from podctl.waiting import parse_condition, wait

    async def command(session: Session) -> int:
        condition, seconds = parse_condition(for_), parse_duration(timeout)
        return await wait(session, words or [], condition, labels=selector, everything=everything, timeout=seconds)

    _run(ctx, config, namespace, command)


@app.command(cls=Command)
def scale(
    ctx: typer.Context,
    replicas: Annotated[int, typer.Option(min=0, help="The new number of pods.")],
    words: options.Words = None,
    current_replicas: Annotated[int | None, typer.Option(min=0, help="Only if it is this many now.")] = None,
    config: options.Config = None,
    namespace: options.Namespace = None,
) -> None:
    """Set how many pods a deployment or replica set has."""
    from podctl.scaling import scale

    _run(ctx, config, namespace, lambda session: scale(session, words or [], replicas, current=current_replicas))


@rollout_app.command("status", cls=Command)
def rollout_status(
    ctx: typer.Context,
    words: options.Words = None,
    watch: Annotated[bool, typer.Option("--watch/--no-watch", "-w", help="Wait until it is complete.")] = True,
    timeout: Annotated[str, typer.Option(metavar="TIME", help="0: without end.")] = "0",
    config: options.Config = None,
    namespace: options.Namespace = None,
) -> None:
    """Say how far a rollout is, until it is complete."""
    from podctl.durations import parse_duration
    from podctl.scaling import rollout_status

    async def command(session: Session) -> int:
        return await rollout_status(session, words or [], watch=watch, timeout=parse_duration(timeout))

    _run(ctx, config, namespace, command)


@app.command(cls=Command)
def events(
    ctx: typer.Context,
    about: Annotated[str, typer.Option("--for", metavar="TYPE/NAME", help="Only those about this object.")] = "",
    types: Annotated[str, typer.Option(metavar="TYPES", help="As in Warning or Normal,Warning.")] = "",
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Go on with new ones.")] = False,
    all_namespaces: options.AllNamespaces = False,
    config: options.Config = None,
    namespace: options.Namespace = None,
) -> None:
    """Show what happened, the latest last."""
    from podctl.events import events

    _run(
        ctx,
        config,
        namespace,
        lambda session: events(session, about=about, types=types, all_namespaces=all_namespaces, watch=watch),
    )


@app.command("api-resources", cls=Command)
def api_resources(no_headers: options.NoHeaders = False) -> None:
    """Show the types of objects."""
    from podctl.information import api_resources
    from podctl.session import end

    end(lambda: api_resources(no_headers=no_headers))


@app.command(cls=Command)
def version(
    ctx: typer.Context,
    client: Annotated[bool, typer.Option("--client", help="Only podctl's own.")] = False,
    config: options.Config = None,
    namespace: options.Namespace = None,
) -> None:
    """Show versions, and whether the control plane answers."""
    from podctl.information import client_version, version
    from podctl.session import end

    if client:
        end(client_version)
    _run(ctx, config, namespace, version)


def _run(
    ctx: typer.Context,
    config: options.Config,
    namespace: options.Namespace,
    command: Callable[[Session], Coroutine[Any, Any, int]],
) -> None:
    from podctl.session import run

    run(ctx.obj.overridden(config, namespace), command)
