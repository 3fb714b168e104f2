"""Command lines as kubectl's users write them, on top of typer: `--wait=false`, and `exec` with and without `--`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand


class Command(TyperCommand):
    """Flags may be given a value, as Go's can."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, self._plain_flags(args))

    def _plain_flags(self, args: Sequence[str]) -> list[str]:
        """`--wait=false` as `--no-wait`, `--wait=true` as `--wait`."""
        flags = {name: param for param in self.params if getattr(param, "is_flag", False) for name in param.opts}
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
                # Without an opposite a flag is off unless it is given.
                plain.extend(flags[name].secondary_opts[:1])
        return plain


class ExecCommand(Command):
    """`exec [options] POD [options] [--] COMMAND…`: options after the command's first word are the command's."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, separate_command(args, self._options_with_values()))

    def _options_with_values(self) -> set[str]:
        return {
            name
            for param in self.params
            if param.param_type_name == "option" and not getattr(param, "is_flag", False)
            for name in param.opts
        }


def separate_command(args: Sequence[str], with_values: set[str]) -> list[str]:
    """`args` with `--` before the command: it begins at `--`, or else at the second word that is no option."""
    if "--" in args:
        return list(args)
    words = 0
    skip = False
    for index, arg in enumerate(args):
        if skip:
            skip = False
        elif arg.startswith("-") and arg != "-":
            skip = arg in with_values
        elif words:
            return [*args[:index], "--", *args[index:]]
        else:
            words += 1
    return list(args)
