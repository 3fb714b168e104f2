"""Command lines as kubectl's users write them: global options anywhere, `--wait=false`, `exec` with and without `--`.

click, not typer: typer converts values with pydantic, whose import takes a quarter of the time that `podctl get` may.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click


@dataclass(slots=True)
class Globals:
    """The options that every command takes, before its name or after it; the last one given counts."""

    config: Path | None = None
    namespace: str | None = None


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value is not None:
        setattr(ctx.obj, str(param.name), value)


def _global_options() -> list[click.Option]:
    return [
        click.Option(
            ["--config"],
            metavar="FILE",
            type=click.Path(path_type=Path),
            expose_value=False,
            callback=_remember,
            help="Where the control plane is; default: $PODWIRE_CONFIG, ~/.podwire/config, /etc/podwire/config, "
            "or the one lab that runs.",
        ),
        click.Option(
            ["-n", "--namespace"], metavar="NAME", expose_value=False, callback=_remember, help="The namespace meant."
        ),
    ]


class Command(click.Command):
    """A command with the global options, whose flags may be given a value, as Go's can."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += _global_options()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, plain_flags(args, self.params))


class Group(click.Group):
    """Commands, and the global options before them."""

    command_class = Command
    group_class = type

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += _global_options()

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they are written, not by the alphabet."""
        return list(self.commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, plain_flags(args, self.params))


class ExecCommand(Command):
    """`exec [options] POD [options] [--] COMMAND…`: options after the command's first word are the command's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with_values = {
            name
            for param in self.params
            if isinstance(param, click.Option) and not param.is_flag
            for name in param.opts
        }
        return super().parse_args(ctx, separate_command(args, with_values))


def plain_flags(args: Sequence[str], params: Sequence[click.Parameter]) -> list[str]:
    """`--wait=false` as `--no-wait`, `--wait=true` as `--wait`; what follows `--` is left alone."""
    flags = {
        name: param for param in params if isinstance(param, click.Option) and param.is_flag for name in param.opts
    }
    plain: list[str] = []
    for index, arg in enumerate(args):
        if arg == "--":
            return [*plain, *args[index:]]
        name, _, value = arg.partition("=")
        if name not in flags or value not in ("true", "false"):
            plain.append(arg)
        elif value == "true":
            plain.append(name)
        else:
            # A flag without an opposite is off unless it is given.
            plain.extend(flags[name].secondary_opts[:1])
    return plain


def separate_command(args: Sequence[str], with_values: set[str]) -> list[str]:
    """`args` with `--` before the command: it begins at `--`, or else at the second word that is no option."""
    if "--" in args:
        return list(args)
    words = 0
    is_value = False
    for index, arg in enumerate(args):
        if is_value:
            is_value = False
        elif arg.startswith("-") and arg != "-":
            is_value = arg in with_values
        elif words:
            return [*args[:index], "--", *args[index:]]
        else:
            words += 1
    return list(args)
