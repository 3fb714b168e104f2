"""`podctl patch`: a merge patch (RFC 7386) or a JSON patch (RFC 6902), which the server applies."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podctl.dry_runs import CLIENT, SERVER, SUFFIX
from podctl.failures import CommandError, UsageError
from podctl.naming import qualified
from podctl.output import check_format, is_table, render
from podctl.session import Session, not_found
from podctl.targets import Target, parse_targets
from podwire import errors, yaml_loader

FIELD_MANAGER = "podctl-patch"


@dataclass(frozen=True, slots=True)
class Request:
    """The patch as it was given: its text, or the file that has it."""

    words: Sequence[str]
    type: str
    patch: str = ""
    file: str = ""
    subresource: str = ""
    dry_run: str = "none"
    output: str = ""


async def patch(session: Session, request: Request) -> int:
    check_format(request.output)
    if request.dry_run == CLIENT and not is_table(request.output):
        raise UsageError("what a patch comes to only the server knows: --dry-run=server shows it")
    content = read_patch(request)
    targets = parse_targets(request.words)
    if not all(target.name for target in targets):
        raise UsageError("say which object: TYPE NAME or TYPE/NAME")
    for target in targets:
        await _patch(session, request, target, content)
    return 0


async def _patch(session: Session, request: Request, target: Target, content: Any) -> None:
    client = session.client.kind(target.kind)
    before = await session.fetch(target.kind, target.name)
    after = before
    if request.dry_run != CLIENT:
        try:
            after = await client.patch(
                target.name,
                content,
                namespace=session.namespace_of(target.kind),
                subresource=request.subresource,
                field_manager=FIELD_MANAGER,
                dry_run=request.dry_run == SERVER,
            )
        except errors.NotFound:
            raise not_found(target.kind, target.name) from None
    if not is_table(request.output):
        sys.stdout.write(render(request.output, [(target.kind, after)], single=True))
        return
    unchanged = " (no change)" if after == before and request.dry_run != CLIENT else ""
    print(f"{qualified(target.kind, target.name)} patched{unchanged}{SUFFIX[request.dry_run]}", flush=True)


def read_patch(request: Request) -> Any:
    """The patch as a tree. Raises UsageError or CommandError where it is none of the asked type."""
    if request.type == "strategic":
        raise UsageError(
            "strategic merge patches are not supported: use --type=merge (lists are replaced as a whole), "
            "--type=json (single operations), or podctl apply, which merges lists by their keys"
        )
    if bool(request.patch) == bool(request.file):
        raise UsageError("give the patch with -p PATCH or with --patch-file FILE")
    text, source = (request.patch, "the patch") if request.patch else (_read(request.file), request.file)
    parts = list(yaml_loader.load(text, source))
    if len(parts) != 1:
        raise CommandError(f"{source}: a patch is one document, not {len(parts)}")
    content = parts[0].tree
    wanted, what = (list, "a list of operations") if request.type == "json" else (dict, "an object")
    if not isinstance(content, wanted):
        raise CommandError(f"{source}: a patch of the type {request.type} must be {what}")
    return content


def _read(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"cannot read {file}: {error}") from None
