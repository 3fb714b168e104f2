"""`podctl wait`: returns when objects are as asked for, on the events of a watch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from podctl import jsonpath
from podctl.failures import CommandError, UsageError
from podctl.naming import qualified
from podctl.session import Session, not_found
from podctl.targets import Target, parse_targets
from podwire import manifest
from podwire.client import BOOKMARK, DELETED
from podwire.kinds import Kind

# kubectl waits this long where the timeout is negative.
_LONGEST: Final = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Condition:
    """What is waited for. `holds` is asked about an object that is there; `gone` is met by one that is not."""

    holds: Callable[[Kind, Any], bool]
    gone: bool = False
    may_be_missing: bool = False


def parse_condition(text: str) -> Condition:
    """`delete`, `create`, `condition=Ready[=False]`, `jsonpath={.status.phase}[=Running]`. Raises UsageError."""
    what, _, rest = text.partition("=")
    if what == "delete" and not rest:
        return Condition(lambda kind, obj: False, gone=True, may_be_missing=True)
    if what == "create" and not rest:
        return Condition(lambda kind, obj: True, may_be_missing=True)
    if what == "condition" and rest:
        type_, _, status = rest.partition("=")
        return Condition(lambda kind, obj: _has_condition(obj, type_, status or "True"))
    if what == "jsonpath" and rest:
        expression, brace, value = rest.partition("}")
        path = jsonpath.parse(expression + brace)
        if value and not value.startswith("="):
            raise UsageError(f"{text!r} is not jsonpath={{PATH}}=VALUE")
        return Condition(lambda kind, obj: _has_value(kind, obj, path, value.removeprefix("=")))
    raise UsageError(f"--for is delete, create, condition=TYPE or jsonpath={{PATH}}=VALUE, not {text!r}")


async def wait(
    session: Session, words: Sequence[str], condition: Condition, *, labels: str, everything: bool, timeout: float
) -> int:
    targets = parse_targets(words)
    if not all(target.name for target in targets):
        targets = await _select(session, targets, labels=labels, everything=everything)
        if not targets:
            if condition.gone:
                return 0
            raise CommandError("no matching resources found")
    waiting = {qualified(target.kind, target.name) for target in targets}

    async def one(target: Target) -> None:
        await _until(session, target, condition)
        waiting.discard(qualified(target.kind, target.name))
        print(f"{qualified(target.kind, target.name)} condition met", flush=True)

    try:
        async with asyncio.timeout(_LONGEST if timeout < 0 else timeout), asyncio.TaskGroup() as group:
            for target in targets:
                group.create_task(one(target), name=f"wait for {target.name}")
    except TimeoutError:
        raise CommandError(f"timed out waiting for the condition on {', '.join(sorted(waiting))}") from None
    return 0


async def _select(session: Session, targets: Sequence[Target], *, labels: str, everything: bool) -> list[Target]:
    if not labels and not everything:
        raise UsageError("say which of them: by name, with -l SELECTOR, or --all")
    found = []
    for target in targets:
        listed = await session.client.kind(target.kind).list(
            namespace=session.namespace_of(target.kind), label_selector=labels
        )
        found += [Target(target.kind, obj.metadata.name) for obj in listed.items]
    return found


async def _until(session: Session, target: Target, condition: Condition) -> None:
    events = session.client.kind(target.kind).watch(
        namespace=session.namespace_of(target.kind),
        field_selector=f"metadata.name={target.name}",
        send_initial_events=True,
    )
    there = False
    async with aclosing(events):
        async for event in events:
            if event.type == BOOKMARK:
                # What is there has come before the first bookmark.
                if not there and condition.gone:
                    return
                if not there and not condition.may_be_missing:
                    raise not_found(target.kind, target.name)
            elif event.type == DELETED:
                there = False
                if condition.gone:
                    return
                if not condition.may_be_missing:
                    raise CommandError(f"{qualified(target.kind, target.name)} was deleted")
            else:
                there = True
                if condition.holds(target.kind, event.object):
                    return


def _has_condition(obj: Any, type_: str, status: str) -> bool:
    """A condition that describes an older generation does not count."""
    for condition in getattr(obj.status, "conditions", ()) if hasattr(obj, "status") else ():
        if condition.type.lower() == type_.lower():
            observed = getattr(condition, "observed_generation", 0) or getattr(obj.status, "observed_generation", 0)
            outdated = bool(observed) and observed < obj.metadata.generation
            return not outdated and bool(condition.status.lower() == status.lower())
    return False


def _has_value(kind: Kind, obj: Any, path: jsonpath.Path, expected: str) -> bool:
    found = [jsonpath.as_text(value) for value in jsonpath.values(manifest.to_tree(kind, obj), path)]
    return expected in found if expected else bool(found)
