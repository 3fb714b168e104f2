"""The commands and their options. What a command does is in the module of its verb, imported when it is called.

Nothing here imports gRPC, so that help and mistyped options are answered at once.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import click

from podctl.parsing import Command, ExecCommand, Globals, Group
from podwire import __version__

if TYPE_CHECKING:
    from podctl.session import Session

F = TypeVar("F", bound=Callable[..., Any])


def _merged_by_the_server(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if not value:
        raise click.UsageError("manifests are always merged by the server: leave --server-side=false out", ctx)


words = click.argument("words", nargs=-1, metavar="(TYPE [NAME…] | TYPE/NAME…)")
files = click.option("-f", "--filename", "files", multiple=True, metavar="PATH", help="A manifest, a folder, or -.")
recursive = click.option("-R", "--recursive", is_flag=True, help="Folders with all that is below them.")
dry_run = click.option(
    "--dry-run", default="none", type=click.Choice(["none", "client", "server"]), help="Check, but change nothing."
)
field_manager = click.option(
    "--field-manager", default="podctl", metavar="NAME", help="Who owns the fields that the manifest sets."
)
creating_manager = click.option(
    "--field-manager", default="podctl-create", metavar="NAME", help="Who owns the fields of what is made."
)
force_conflicts = click.option("--force-conflicts", is_flag=True, help="Take fields over that other managers own.")
server_side = click.option(
    "--server-side/--no-server-side",
    default=True,
    expose_value=False,
    callback=_merged_by_the_server,
    help="Accepted, but manifests are always merged by the server.",
)
labels = click.option("-l", "--selector", "labels", default="", metavar="LABELS", help="As in app=web,tier in (a,b).")
fields = click.option("--field-selector", "fields", default="", metavar="FIELDS", help="As in status.phase=Running.")
all_namespaces = click.option("-A", "--all-namespaces", is_flag=True, help="Of every namespace.")
output = click.option("-o", "--output", default="", metavar="FORMAT", help="wide, yaml, json, name or jsonpath=…")
no_headers = click.option("--no-headers", is_flag=True, help="No line of headings.")
ignore_not_found = click.option("--ignore-not-found", is_flag=True, help="What is not there is no error.")
container = click.option("-c", "--container", default="", metavar="NAME", help="The container; default: the first.")
everything = click.option("--all", "everything", is_flag=True, help="All objects of the type.")


def timeout(default: str, text: str) -> Callable[[F], F]:
    return click.option("--timeout", default=default, metavar="TIME", help=text)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def app() -> None:
    """Talks to a Podwire control plane, with the habits of kubectl."""


@app.command(cls=Command)
@files
@recursive
@dry_run
@output
@field_manager
@force_conflicts
@server_side
@click.pass_obj
def apply(options: Globals, /, force_conflicts: bool, **choices: Any) -> None:
    """Create objects, or change them to what manifests say.

    Fields that other managers own with other values are conflicts; what podctl's own commands changed is not.
    """
    from podctl.applying import Request, apply

    _run(options, lambda session: apply(session, Request(**choices, force=force_conflicts)))


@app.command(cls=Command)
@files
@recursive
@field_manager
@force_conflicts
@server_side
@click.option("--show-managed-fields", is_flag=True, help="Also who set which field.")
@click.pass_obj
def diff(options: Globals, /, force_conflicts: bool, **choices: Any) -> None:
    """Show what apply would change. Ends with 1 where anything would, and with more than 1 where that is not known."""
    from podctl.differing import Request, diff

    _run(options, lambda session: diff(session, Request(**choices, force=force_conflicts)), failed=2)


@app.group(cls=Group, invoke_without_command=True)
@files
@recursive
@dry_run
@output
@creating_manager
@click.pass_context
def create(ctx: click.Context, /, **choices: Any) -> None:
    """Create objects that are not there yet."""
    if ctx.invoked_subcommand is None:
        from podctl.applying import Request, create

        _run(ctx.obj, lambda session: create(session, Request(**choices)))


@create.command("namespace", cls=Command)
@click.argument("name")
@dry_run
@output
@creating_manager
@click.pass_obj
def create_namespace(options: Globals, /, name: str, **choices: str) -> None:
    """Create a namespace."""
    from podctl.applying import create_namespace

    _run(options, lambda session: create_namespace(session, name, **choices))


create.add_command(create_namespace, "ns")


@app.command(cls=Command)
@words
@output
@click.option("-w", "--watch", is_flag=True, help="Go on with every change.")
@labels
@fields
@all_namespaces
@no_headers
@click.option("--show-labels", is_flag=True, help="A column with all labels.")
@click.option("--show-managed-fields", is_flag=True, help="Who set which field, with -o yaml or json.")
@ignore_not_found
@click.pass_obj
def get(
    options: Globals,
    words: tuple[str, ...],
    output: str,
    watch: bool,
    labels: str,
    fields: str,
    all_namespaces: bool,
    no_headers: bool,
    show_labels: bool,
    show_managed_fields: bool,
    ignore_not_found: bool,
) -> None:
    """Show objects: `get pods`, `get pod web -o yaml`, `get deploy/web svc/web`, `get pods,services -A`, `get all`."""
    from podctl.getting import Selection, View, get

    view = View(output, all_namespaces, no_headers, show_labels, show_managed_fields)
    selection = Selection(labels, fields, ignore_not_found)
    _run(options, lambda session: get(session, words, selection, view, watch=watch))


@app.command(cls=Command)
@words
@labels
@all_namespaces
@click.pass_obj
def describe(options: Globals, words: tuple[str, ...], labels: str, all_namespaces: bool) -> None:
    """Show all that is known of objects, with their events."""
    from podctl.describing import describe

    _run(options, lambda session: describe(session, words, labels=labels, all_namespaces=all_namespaces))


@app.command(cls=Command)
@words
@files
@recursive
@labels
@fields
@everything
@all_namespaces
@ignore_not_found
@click.option("--wait/--no-wait", default=True, help="Return when the objects are gone.")
@timeout("0", "Wait so long at most; 0: without end.")
@click.option("--grace-period", type=int, metavar="SECONDS", help="Between SIGTERM and SIGKILL.")
@click.option("--now", is_flag=True, help="A grace period of 1 s.")
@click.option("--force", is_flag=True, help="Remove the objects at once, whatever their node does.")
@click.option(
    "--cascade",
    default="background",
    type=click.Choice(["background", "foreground", "orphan"]),
    help="What becomes of what they own: deleted after them, deleted before them, or left.",
)
@dry_run
@click.option("-o", "--output", default="", type=click.Choice(["", "name"]), metavar="name", help="Only the names.")
@click.pass_obj
def delete(options: Globals, /, timeout: str, **choices: Any) -> None:
    """Delete objects by name, by file, by label, or all of a type."""
    from podctl.deleting import Request, delete
    from podctl.durations import parse_duration

    _run(options, lambda session: delete(session, Request(**choices, timeout=parse_duration(timeout) or None)))


@app.command(cls=Command)
@click.argument("target", metavar="POD | TYPE/NAME")
@click.argument("container_name", required=False, default="", metavar="[CONTAINER]")
@container
@click.option("-f", "--follow", is_flag=True, help="Go on until the container ends.")
@click.option("--tail", type=int, default=-1, metavar="LINES", help="Only so many lines from the end; -1: all.")
@click.option("--timestamps", is_flag=True, help="Begin each line with its time.")
@click.option("-p", "--previous", is_flag=True, help="Of the run before the current one.")
@click.pass_obj
def logs(options: Globals, /, target: str, container_name: str, container: str, **choices: Any) -> None:
    """Show what a container writes."""
    from podctl.logs import Request, logs

    _run(options, lambda session: logs(session, Request(target, container or container_name, **choices)))


@app.command("exec", cls=ExecCommand)
@click.argument("target", metavar="POD | TYPE/NAME")
@click.argument("command", nargs=-1, required=True, metavar="[--] COMMAND…")
@container
@click.option("-i", "--stdin", is_flag=True, help="Pass stdin on.")
@click.option("-t", "--tty", is_flag=True, help="stdin is a terminal.")
@click.pass_obj
def execute(options: Globals, target: str, command: tuple[str, ...], container: str, stdin: bool, tty: bool) -> None:
    """Run a command in a container; its exit status is podctl's. Options after the command's name are its own."""
    from podctl.executing import execute

    _run(
        options,
        lambda session: execute(session, target, command, container=container, stdin=stdin, terminal=tty),
    )


@app.command(cls=Command)
@words
@click.option("--for", "condition", required=True, metavar="CONDITION", help="delete, condition=Ready, jsonpath={…}=…")
@labels
@everything
@timeout("30s", "0: look once; negative: a week.")
@click.pass_obj
def wait(options: Globals, words: tuple[str, ...], condition: str, labels: str, everything: bool, timeout: str) -> None:
    """Wait until objects are as asked for."""
    from podctl.durations import parse_duration
    from podctl.waiting import parse_condition, wait

    async def command(session: Session) -> int:
        wanted, seconds = parse_condition(condition), parse_duration(timeout)
        return await wait(session, words, wanted, labels=labels, everything=everything, timeout=seconds)

    _run(options, command)


@app.command(cls=Command)
@words
@click.option("--replicas", type=click.IntRange(min=0), required=True, help="The new number of pods.")
@click.option("--current-replicas", "current", type=int, help="Only if it is this many now.")
@dry_run
@click.pass_obj
def scale(options: Globals, words: tuple[str, ...], replicas: int, current: int | None, dry_run: str) -> None:
    """Set how many pods a deployment or replica set has."""
    from podctl.scaling import scale

    _run(options, lambda session: scale(session, words, replicas, current=current, dry_run=dry_run))


@app.command(cls=Command)
@words
@click.option(
    "--type",
    default="merge",
    type=click.Choice(["merge", "json", "strategic"]),
    help="merge: an object whose fields are set, null removes; json: a list of operations.",
)
@click.option("-p", "--patch", default="", metavar="PATCH", help="The patch, as JSON or YAML.")
@click.option("--patch-file", "file", default="", metavar="PATH", help="A file with the patch, or -.")
@click.option("--subresource", default="", type=click.Choice(["", "status"]), metavar="status", help="Only the status.")
@dry_run
@output
@click.pass_obj
def patch(options: Globals, /, **choices: Any) -> None:
    """Change some fields of an object."""
    from podctl.patching import Request, patch

    _run(options, lambda session: patch(session, Request(**choices)))


def _changes_metadata(command: F) -> F:
    """The arguments of label and annotate."""
    for option in (
        output,
        dry_run,
        all_namespaces,
        everything,
        labels,
        click.option("--overwrite", is_flag=True, help="Change values that are there already."),
        click.argument("words", nargs=-1, metavar="(TYPE [NAME…] | TYPE/NAME…) (KEY=VALUE | KEY-)…"),
    ):
        command = option(command)
    return command


@app.command(cls=Command)
@_changes_metadata
@click.pass_obj
def label(options: Globals, /, **choices: Any) -> None:
    """Set labels of objects, or remove them."""
    from podctl.labelling import LABELS, Request, change

    _run(options, lambda session: change(session, Request(**choices), LABELS))


@app.command(cls=Command)
@_changes_metadata
@click.pass_obj
def annotate(options: Globals, /, **choices: Any) -> None:
    """Set annotations of objects, or remove them."""
    from podctl.labelling import ANNOTATIONS, Request, change

    _run(options, lambda session: change(session, Request(**choices), ANNOTATIONS))


@app.group(cls=Group)
def rollout() -> None:
    """Follow the rollout of a deployment."""


@rollout.command("status", cls=Command)
@words
@click.option("-w", "--watch/--no-watch", default=True, help="Go on until it is complete.")
@timeout("0", "0: without end.")
@click.pass_obj
def rollout_status(options: Globals, words: tuple[str, ...], watch: bool, timeout: str) -> None:
    """Say how far a rollout is, until it is complete."""
    from podctl.durations import parse_duration
    from podctl.scaling import rollout_status

    _run(options, lambda session: rollout_status(session, words, watch=watch, timeout=parse_duration(timeout)))


@app.command(cls=Command)
@click.option("--for", "about", default="", metavar="TYPE/NAME", help="Only those about this object.")
@click.option("--types", default="", metavar="TYPES", help="As in Warning or Normal,Warning.")
@click.option("-w", "--watch", is_flag=True, help="Go on with new ones.")
@all_namespaces
@click.pass_obj
def events(options: Globals, about: str, types: str, watch: bool, all_namespaces: bool) -> None:
    """Show what happened, the latest last."""
    from podctl.events import events

    _run(
        options,
        lambda session: events(session, about=about, types=types, all_namespaces=all_namespaces, watch=watch),
    )


@app.group(cls=Group)
def cluster() -> None:
    """The control plane itself: its store, its leaders."""


@cluster.command("status", cls=Command)
@click.option("-o", "--output", default="", metavar="FORMAT", help="yaml or json")
@click.pass_obj
def cluster_status(options: Globals, output: str) -> None:
    """Show etcd's members, sizes and alarms, and who leads. Ends with 1 where something is wrong."""
    from podctl.cluster import status

    _run(options, lambda session: status(session, output=output))


@app.command("api-resources", cls=Command)
@no_headers
def api_resources(no_headers: bool) -> None:
    """Show the types of objects."""
    from podctl.information import api_resources
    from podctl.session import end

    end(lambda: api_resources(no_headers=no_headers))


@app.command(cls=Command)
@click.option("--client", is_flag=True, help="Only podctl's own.")
@click.pass_obj
def version(options: Globals, client: bool) -> None:
    """Show versions, and whether the control plane answers."""
    print(f"Client Version: {__version__}")
    if not client:
        from podctl.information import version

        _run(options, version)


def _run(options: Globals, command: Callable[[Session], Coroutine[Any, Any, int]], *, failed: int = 1) -> None:
    from podctl.session import run

    run(options, command, failed=failed)
