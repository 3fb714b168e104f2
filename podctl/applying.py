"""`podctl apply` and `podctl create`: every document is checked before the first one is sent."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from podctl import manifests
from podctl.naming import qualified
from podctl.output import is_table, render
from podctl.session import Session, complain
from podwire import errors, kinds, v1
from podwire.kinds import Kind
from podwire.manifest import Document

# The object, what was done ("created"), and warnings.
Outcome = tuple[Any, str, Sequence[str]]
Verb = Callable[[Document, str, bool], Awaitable[Outcome]]


@dataclass(frozen=True, slots=True)
class Request:
    """What the options say, of apply and create alike. `force` is for apply: it takes other managers' fields over."""

    files: Sequence[str]
    recursive: bool
    dry_run: str
    output: str
    field_manager: str
    force: bool = False


async def apply(session: Session, request: Request) -> int:
    async def verb(document: Document, namespace: str, dry: bool) -> Outcome:
        applied = await session.client.kind(document.kind).apply(
            document.tree,
            namespace=namespace,
            field_manager=request.field_manager,
            force=request.force,
            dry_run=dry,
        )
        return applied.object, applied.result, applied.warnings

    return await _send_all(session, request, verb)


async def create(session: Session, request: Request) -> int:
    async def verb(document: Document, namespace: str, dry: bool) -> Outcome:
        obj = document.message()
        obj.metadata.namespace = namespace
        client = session.client.kind(document.kind)
        return await client.create(obj, field_manager=request.field_manager, dry_run=dry), "created", ()

    return await _send_all(session, request, verb)


async def create_namespace(session: Session, name: str, *, dry_run: str, output: str, field_manager: str) -> int:
    namespace = v1.Namespace(metadata=v1.ObjectMeta(name=name))
    if dry_run != "client":
        namespace = await session.client.namespaces.create(
            namespace, field_manager=field_manager, dry_run=dry_run == "server"
        )
    _show(kinds.NAMESPACE, namespace, "created", dry_run, output)
    return 0


async def _send_all(session: Session, request: Request, verb: Verb) -> int:
    dry_run, output = request.dry_run, request.output
    documents = manifests.read_valid(
        request.files, session.namespace, recursive=request.recursive, explicit=session.explicit
    )
    status = 0
    for document in documents:
        namespace = manifests.namespace_of(document, session.namespace)
        if dry_run == "client":
            _show(document.kind, document.message(), "created", dry_run, output)
            continue
        try:
            obj, result, warnings = await verb(document, namespace, dry_run == "server")
        except errors.Unavailable:
            # The others would wait for the server too.
            raise
        except errors.PodwireError as error:
            status = complain(document.located(error) if isinstance(error, errors.Invalid) else error)
            continue
        for warning in warnings:
            print(f"Warning: {qualified(document.kind, obj.metadata.name)}: {warning}", file=sys.stderr)
        _show(document.kind, obj, result, dry_run, output)
    return status


def _show(kind: Kind, obj: Any, result: str, dry_run: str, output: str) -> None:
    if not is_table(output):
        sys.stdout.write(render(output, [(kind, obj)], single=True))
        return
    suffix = {"none": "", "client": " (dry run)", "server": " (server dry run)"}[dry_run]
    print(f"{qualified(kind, obj.metadata.name)} {result}{suffix}", flush=True)
