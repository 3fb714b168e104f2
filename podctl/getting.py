"""`podctl get`: lists as tables or whole objects, once or going on."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from podctl.columns import cells, columns_of, event_order, headers, label_columns
from podctl.failures import CommandError, UsageError
from podctl.output import check_format, is_table, render
from podctl.session import Session, complain, not_found
from podctl.tables import Table
from podctl.targets import Target, parse_targets
from podwire import errors, kinds
from podwire.client import BOOKMARK, Listed
from podwire.kinds import Kind


@dataclass(frozen=True, slots=True)
class View:
    """How objects are shown. `output` is what -o was given, empty for the table."""

    output: str = ""
    all_namespaces: bool = False
    no_headers: bool = False
    show_labels: bool = False
    show_managed_fields: bool = False

    def render(self, objects: Sequence[tuple[Kind, Any]], *, single: bool) -> str:
        """Whole objects, in a format that is no table."""
        return render(self.output, objects, single=single, show_managed_fields=self.show_managed_fields)


@dataclass(frozen=True, slots=True)
class Selection:
    labels: str = ""
    fields: str = ""
    ignore_not_found: bool = False


async def get(session: Session, words: Sequence[str], selection: Selection, view: View, *, watch: bool) -> int:
    check_format(view.output)
    targets = parse_targets(words)
    if any(target.name for target in targets):
        if selection.labels or selection.fields:
            raise UsageError("names and selectors cannot be combined")
        if view.all_namespaces:
            raise UsageError("an object cannot be got by name across all namespaces")
    several = len({target.kind.name for target in targets}) > 1
    if watch:
        if several or (len(targets) > 1 and targets[0].name):
            raise UsageError("one type, or one object of it, can be watched at a time")
        return await _watch(session, targets[0], selection, view)
    found, status = await _find(session, targets, selection, view)
    if not is_table(view.output):
        sys.stdout.write(view.render(found, single=len(targets) == 1 and bool(targets[0].name)))
        return status
    shown = 0
    for kind in dict.fromkeys(target.kind.name for target in targets):
        objects = [obj for of_kind, obj in found if of_kind.name == kind]
        if objects:
            print("\n" * bool(shown), end="")
            printer = Printer(kinds.BY_NAME[kind], view, qualify=several)
            printer.show(objects)
            shown += 1
    if not shown and not status and not selection.ignore_not_found:
        print(_nothing(session, targets, view), file=sys.stderr)
    return status


async def _find(
    session: Session, targets: Sequence[Target], selection: Selection, view: View
) -> tuple[list[tuple[Kind, Any]], int]:
    """The objects, and the status to end with: an object that is not there does not hide the others."""
    found: list[tuple[Kind, Any]] = []
    status = 0
    for target in targets:
        if not target.name:
            listed = await list_kind(session, target.kind, selection, all_namespaces=view.all_namespaces)
            found += [(target.kind, obj) for obj in listed.items]
            continue
        try:
            obj = await session.fetch(target.kind, target.name)
        except errors.NotFound as error:
            status = status if selection.ignore_not_found else complain(error)
        else:
            found.append((target.kind, obj))
    return found, status


async def list_kind(session: Session, kind: Kind, selection: Selection, *, all_namespaces: bool = False) -> Listed[Any]:
    """The objects of a kind; events in the order in which they happened."""
    listed = await session.client.kind(kind).list(
        namespace="" if all_namespaces else session.namespace_of(kind),
        label_selector=selection.labels,
        field_selector=selection.fields,
    )
    if kind is kinds.EVENT:
        listed.items.sort(key=event_order)
    return listed


async def _watch(session: Session, target: Target, selection: Selection, view: View) -> int:
    if target.name:
        selection = Selection(fields=f"metadata.name={target.name}")
    listed = await list_kind(session, target.kind, selection, all_namespaces=view.all_namespaces)
    if target.name and not listed.items:
        raise not_found(target.kind, target.name)
    printer = Printer(target.kind, view)
    printer.show(listed.items)
    async for _, obj in changes(session, target.kind, selection, listed, all_namespaces=view.all_namespaces):
        printer.show([obj])
    raise CommandError("the watch has ended")


async def changes(
    session: Session, kind: Kind, selection: Selection, listed: Listed[Any], *, all_namespaces: bool = False
) -> AsyncIterator[tuple[str, Any]]:
    """Every change after `listed`, without end: what happened, and the object."""
    events = session.client.kind(kind).watch(
        namespace="" if all_namespaces else session.namespace_of(kind),
        label_selector=selection.labels,
        field_selector=selection.fields,
        resource_version=listed.resource_version,
        epoch=listed.epoch,
        known=listed.items,
    )
    async with aclosing(events):
        async for event in events:
            if event.type != BOOKMARK:
                yield event.type, event.object


class Printer:
    """Prints objects of one kind, and goes on in the same columns."""

    def __init__(self, kind: Kind, view: View, *, qualify: bool = False) -> None:
        self._kind = kind
        self._view = view
        self._qualify = qualify
        self._columns = columns_of(kind, wide=view.output == "wide")
        self._with_namespace = view.all_namespaces and kind.namespaced
        names = headers(self._columns)
        if self._with_namespace:
            names.insert(0, "NAMESPACE")
        if view.show_labels:
            names.append("LABELS")
        self._table = Table(() if view.no_headers else names)

    def show(self, objects: Sequence[Any]) -> None:
        if is_table(self._view.output):
            now = time.time()
            text = self._table.render(self._row(obj, now) for obj in objects)
        else:
            text = "".join(self._view.render([(self._kind, obj)], single=True) for obj in objects)
        sys.stdout.write(text)
        sys.stdout.flush()

    def _row(self, obj: Any, now: float) -> list[str]:
        row = cells(self._kind, self._columns, obj, now, qualify=self._qualify)
        if self._with_namespace:
            row.insert(0, obj.metadata.namespace)
        if self._view.show_labels:
            row.append(label_columns(obj.metadata.labels))
        return row


def _nothing(session: Session, targets: Sequence[Target], view: View) -> str:
    if view.all_namespaces or not any(target.kind.namespaced for target in targets):
        return "No resources found"
    return f"No resources found in {session.namespace} namespace."
