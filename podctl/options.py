"""The options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer


@dataclass(frozen=True, slots=True)
class Globals:
    """The options that every command takes, before its name or after it."""

    config: Path | None = None
    namespace: str | None = None

    def overridden(self, config: Path | None, namespace: str | None) -> Globals:
        return Globals(config or self.config, namespace or self.namespace)


Config = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Where the control plane is; default: $PODWIRE_CONFIG, ~/.podwire/config, /etc/podwire/config, "
        "or the one lab that runs.",
    ),
]
Namespace = Annotated[str | None, typer.Option("-n", "--namespace", metavar="NAME", help="The namespace meant.")]
Files = Annotated[
    list[str] | None, typer.Option("-f", "--filename", metavar="PATH", help="A manifest, a folder, or - for stdin.")
]
Recursive = Annotated[bool, typer.Option("-R", "--recursive", help="Folders with all that is below them.")]
DryRun = Annotated[
    str, typer.Option("--dry-run", metavar="none|client|server", help="Check and show, but change nothing.")
]
Labels = Annotated[str, typer.Option("-l", "--selector", metavar="LABELS", help="As in app=web,tier in (a,b).")]
Fields = Annotated[str, typer.Option("--field-selector", metavar="FIELDS", help="As in status.phase=Running.")]
AllNamespaces = Annotated[bool, typer.Option("-A", "--all-namespaces", help="Of every namespace.")]
Output = Annotated[str, typer.Option("-o", "--output", metavar="FORMAT", help="wide, yaml, json, name or jsonpath=…")]
NoHeaders = Annotated[bool, typer.Option("--no-headers", help="No line of headings.")]
IgnoreNotFound = Annotated[bool, typer.Option("--ignore-not-found", help="What is not there is no error.")]
Container = Annotated[str, typer.Option("-c", "--container", metavar="NAME", help="The container; default: the first.")]
Everything = Annotated[bool, typer.Option("--all", help="All objects of the type.")]
Words = Annotated[list[str] | None, typer.Argument(metavar="(TYPE [NAME…] | TYPE/NAME…)", show_default=False)]
