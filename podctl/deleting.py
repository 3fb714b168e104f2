"""`podctl delete`, which by default returns when the objects are gone."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from podctl import manifests
from podctl.dry_runs import CLIENT, NONE, SERVER, SUFFIX
from podctl.durations import is_set
from podctl.failures import CommandError, UsageError
from podctl.naming import qualified, resource
from podctl.session import Session, complain, not_found
from podctl.targets import parse_targets
from podwire import errors
from podwire.client import BOOKMARK, DELETED
from podwire.kinds import Kind
from podwire.propagation import BACKGROUND, FOREGROUND, ORPHAN

# kubectl's words for what becomes of what the objects own.
_POLICIES: Final = {"background": BACKGROUND, "foreground": FOREGROUND, "orphan": ORPHAN}


@dataclass(frozen=True, slots=True)
class Request:
    """What to delete and how. `timeout` in seconds bounds the waiting; None: none."""

    words: Sequence[str] = ()
    files: Sequence[str] = ()
    recursive: bool = False
    labels: str = ""
    fields: str = ""
    everything: bool = False
    all_namespaces: bool = False
    ignore_not_found: bool = False
    wait: bool = True
    timeout: float | None = None
    grace_period: int | None = None
    now: bool = False
    force: bool = False
    cascade: str = "background"
    dry_run: str = NONE
    output: str = ""

    @property
    def effective_grace(self) -> int | None:
        """kubectl's rules: --now is 1 s; 0 needs --force, which implies it."""
        if self.now:
            if self.force or self.grace_period is not None:
                raise UsageError("--now stands alone: it is a grace period of 1 s")
            return 1
        if self.force:
            if self.grace_period not in (None, 0):
                raise UsageError("--force and a grace period above 0 exclude each other")
            return 0
        return 1 if self.grace_period == 0 else self.grace_period


@dataclass(frozen=True, slots=True)
class Victim:
    kind: Kind
    namespace: str
    name: str


async def delete(session: Session, request: Request) -> int:
    grace = request.effective_grace
    if request.force and request.dry_run == NONE:
        print(
            "Warning: immediate deletion does not wait for confirmation that the resource has ended; "
            "it may go on running on its node.",
            file=sys.stderr,
        )
    victims, chosen = await _victims(session, request)
    if not victims:
        if not request.ignore_not_found and not chosen:
            print("No resources found", file=sys.stderr)
        return 0
    status = 0
    going: list[tuple[Victim, Any]] = []
    for victim in victims:
        client = session.client.kind(victim.kind)
        try:
            if request.dry_run == CLIENT:
                obj = await client.get(victim.name, namespace=victim.namespace)
            else:
                obj = await client.delete(
                    victim.name,
                    namespace=victim.namespace,
                    grace_period_seconds=grace,
                    propagation_policy=_POLICIES[request.cascade],
                    dry_run=request.dry_run == SERVER,
                )
        except errors.NotFound:
            # What a selector found may have ended by itself.
            if chosen and not request.ignore_not_found:
                status = complain(not_found(victim.kind, victim.name))
            continue
        except errors.Unavailable:
            raise
        except errors.PodwireError as error:
            status = complain(error)
            continue
        _say(victim, request)
        if is_set(obj.metadata.deletion_timestamp) and request.dry_run == NONE:
            going.append((victim, obj))
    if request.wait and going:
        await _wait_all(session, going, request.timeout)
    return status


async def _victims(session: Session, request: Request) -> tuple[list[Victim], bool]:
    """What to delete, and whether the user named each of them."""
    if request.files:
        if request.words or request.labels or request.everything:
            raise UsageError("-f stands alone: no names, no selector, no --all")
        documents = manifests.read(request.files, recursive=request.recursive)
        named = [
            Victim(document.kind, manifests.namespace_of(document, session.namespace), manifests.name_of(document))
            for document in documents
        ]
        if not all(victim.name for victim in named):
            raise CommandError("a document has no metadata.name")
        return named, True
    targets = parse_targets(request.words)
    selected = bool(request.labels or request.fields or request.everything)
    if all(target.name for target in targets):
        if selected:
            raise UsageError("names and selectors cannot be combined")
        return [Victim(target.kind, session.namespace_of(target.kind), target.name) for target in targets], True
    if not selected:
        raise UsageError("say which of them: by name, with -l SELECTOR, or --all")
    found: list[Victim] = []
    for target in targets:
        listed = await session.client.kind(target.kind).list(
            namespace="" if request.all_namespaces else session.namespace_of(target.kind),
            label_selector=request.labels,
            field_selector=request.fields,
        )
        found += [Victim(target.kind, obj.metadata.namespace, obj.metadata.name) for obj in listed.items]
    return found, False


def _say(victim: Victim, request: Request) -> None:
    if request.output == "name":
        print(qualified(victim.kind, victim.name), flush=True)
    else:
        done = f"{'force ' * request.force}deleted{SUFFIX[request.dry_run]}"
        print(f'{resource(victim.kind)} "{victim.name}" {done}', flush=True)


async def _wait_all(session: Session, going: Sequence[tuple[Victim, Any]], timeout: float | None) -> None:
    try:
        async with asyncio.timeout(timeout), asyncio.TaskGroup() as group:
            for victim, obj in going:
                group.create_task(_gone(session, victim, obj.metadata.uid), name=f"wait for {victim.name}")
    except TimeoutError:
        raise CommandError("timed out waiting for the objects to be gone; their deletion goes on") from None


async def _gone(session: Session, victim: Victim, uid: str) -> None:
    """Returns when the object of that uid is gone; another of its name does not count."""
    events = session.client.kind(victim.kind).watch(
        namespace=victim.namespace, field_selector=f"metadata.name={victim.name}", send_initial_events=True
    )
    seen = False
    async with aclosing(events):
        async for event in events:
            if event.type == BOOKMARK:
                if not seen:
                    # Everything that is there comes before the first bookmark: it was gone already.
                    return
            elif event.object.metadata.uid == uid:
                if event.type == DELETED:
                    return
                seen = True
