"""`podctl label` and `podctl annotate`: `key=value` sets, `key-` removes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from podctl.dry_runs import CLIENT, NONE, SERVER, SUFFIX
from podctl.failures import CommandError, UsageError
from podctl.naming import qualified
from podctl.output import check_format, is_table, render
from podctl.session import Session, complain
from podctl.targets import Target, parse_targets
from podwire import errors

# Others' writes that may come between reading and writing; controllers write often.
_ATTEMPTS: Final = 10


@dataclass(frozen=True, slots=True)
class Field:
    """What of metadata is changed, and the words for it."""

    name: str
    singular: str
    changed: str
    removed: str
    unchanged: str


LABELS: Final = Field("labels", "label", "labeled", "unlabeled", "not labeled")
# kubectl has one word for all three.
ANNOTATIONS: Final = Field("annotations", "annotation", "annotated", "annotated", "annotated")


@dataclass(frozen=True, slots=True)
class Request:
    words: Sequence[str]
    overwrite: bool = False
    labels: str = ""
    everything: bool = False
    all_namespaces: bool = False
    dry_run: str = NONE
    output: str = ""


# A key and its new value; None: it is removed.
Changes = Mapping[str, str | None]


async def change(session: Session, request: Request, field: Field) -> int:
    check_format(request.output)
    words, changes = split_changes(request.words, field)
    status = 0
    for target, namespace in await _objects(session, request, words):
        try:
            before, after = await _change(session, request, field, target, namespace, changes)
        except (errors.NotFound, errors.Invalid, CommandError) as error:
            status = complain(error)
            continue
        if not is_table(request.output):
            sys.stdout.write(render(request.output, [(target.kind, after)], single=True))
            continue
        what = outcome(_of(before, field), changes, field)
        print(f"{qualified(target.kind, target.name)} {what}{SUFFIX[request.dry_run]}", flush=True)
    return status


def split_changes(words: Sequence[str], field: Field) -> tuple[list[str], Changes]:
    """The words that name objects, and after them the changes."""
    first = next((i for i, word in enumerate(words) if _is_change(word)), len(words))
    changes: dict[str, str | None] = {}
    for word in words[first:]:
        if not _is_change(word):
            raise UsageError(f'"{word}" is neither KEY=VALUE nor KEY-: names of objects stand before them')
        key, sign, value = word.partition("=") if "=" in word else (word[:-1], "", "")
        if key in changes:
            raise UsageError(f'the {field.singular} "{key}" is given twice')
        changes[key] = value if sign else None
    if not changes:
        raise UsageError(f"at least one {field.singular} is needed: KEY=VALUE sets it, KEY- removes it")
    return list(words[:first]), changes


def outcome(before: Mapping[str, str], changes: Changes, field: Field) -> str:
    """kubectl's word for what was done."""
    real = {key: value for key, value in changes.items() if before.get(key) != value}
    if not real:
        return field.unchanged
    return field.removed if all(value is None for value in real.values()) else field.changed


def _is_change(word: str) -> bool:
    return "=" in word or word.endswith("-")


async def _objects(session: Session, request: Request, words: Sequence[str]) -> list[tuple[Target, str]]:
    targets = parse_targets(words)
    selected = bool(request.labels or request.everything)
    if all(target.name for target in targets):
        if selected:
            raise UsageError("names and selectors cannot be combined")
        return [(target, session.namespace_of(target.kind)) for target in targets]
    if not selected:
        raise UsageError("say which of them: by name, with -l SELECTOR, or --all")
    found = []
    for target in targets:
        namespace = "" if request.all_namespaces else session.namespace_of(target.kind)
        listed = await session.client.kind(target.kind).list(namespace=namespace, label_selector=request.labels)
        found += [(Target(target.kind, obj.metadata.name), obj.metadata.namespace) for obj in listed.items]
    return found


async def _change(
    session: Session, request: Request, field: Field, target: Target, namespace: str, changes: Changes
) -> tuple[Any, Any]:
    """The object before and after."""
    client = session.client.kind(target.kind)
    for attempt in range(_ATTEMPTS):
        before = await session.fetch(target.kind, target.name, namespace)
        _check(_of(before, field), changes, field, overwrite=request.overwrite)
        if request.dry_run == CLIENT:
            break
        version = before.metadata.resource_version
        try:
            after = await client.patch(
                target.name,
                {"metadata": {"resourceVersion": version, field.name: dict(changes)}},
                namespace=namespace,
                field_manager=f"podctl-{field.singular}",
                dry_run=request.dry_run == SERVER,
            )
        except errors.Conflict:
            # Somebody else wrote in between: what was checked may not hold any more.
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            return before, after
    return before, before


def _check(before: Mapping[str, str], changes: Changes, field: Field, *, overwrite: bool) -> None:
    for key, value in changes.items():
        if value is None and key not in before:
            print(f'{field.singular} "{key}" not found.', file=sys.stderr)
        elif value is not None and not overwrite and before.get(key, value) != value:
            raise CommandError(f"'{key}' already has a value ({before[key]}), and --overwrite is false")


def _of(obj: Any, field: Field) -> Mapping[str, str]:
    values: Mapping[str, str] = getattr(obj.metadata, field.name)
    return values
