"""What the descriptions have in common: their heads, maps of labels, owners, conditions, and the table of events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from podctl.columns import event_age
from podctl.durations import date
from podwire import v1

NONE: Final = "<none>"


def field(name: str, value: object, *, indent: int = 0) -> str:
    """One line, `Name:` and its value in the next column."""
    return f"{'  ' * indent}{name}:\t{value}\n"


def mapping(name: str, values: Mapping[str, str], *, separator: str = "=", indent: int = 0) -> str:
    """A map with an entry a line, all in the second column."""
    lines = [f"{key}{separator}{value}" for key, value in sorted(values.items())] or [NONE]
    first, rest = lines[0], lines[1:]
    return field(name, first, indent=indent) + "".join(f"{'  ' * indent}\t{line}\n" for line in rest)


def head(metadata: v1.ObjectMeta) -> str:
    """Name and, of kinds that have it, namespace."""
    text = field("Name", metadata.name)
    return text + field("Namespace", metadata.namespace) if metadata.namespace else text


def label_lines(metadata: v1.ObjectMeta) -> str:
    return mapping("Labels", metadata.labels)


def annotation_lines(metadata: v1.ObjectMeta) -> str:
    shown = {key: value.strip() for key, value in metadata.annotations.items() if not _is_bookkeeping(key)}
    return mapping("Annotations", shown, separator=": ")


def created(metadata: v1.ObjectMeta) -> str:
    return field("CreationTimestamp", date(metadata.creation_timestamp))


def controlled_by(metadata: v1.ObjectMeta) -> str:
    owner = next((reference for reference in metadata.owner_references if reference.controller), None)
    return field("Controlled By", f"{owner.kind}/{owner.name}") if owner else ""


def rows(headers: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A small table below a heading: headers underlined, everything indented."""
    underlines = ["-" * len(header) for header in headers]
    return "".join("  " + "\t".join(line) + "\n" for line in (headers, underlines, *lines))


def describe_events(events: Sequence[v1.Event], now: float) -> str:
    """The table at the end; `x771 over 42m` where one repeats."""
    if not events:
        return field("Events", NONE)
    lines = [
        (
            event.type,
            event.reason,
            event_age(event, now),
            event.source.component or event.reporting_component,
            event.message.strip(),
        )
        for event in events
    ]
    return "Events:\n" + rows(("Type", "Reason", "Age", "From", "Message"), lines)


def conditions(found: Sequence[Any]) -> str:
    """Type, status and reason, as workloads show them."""
    if not found:
        return ""
    lines = [(condition.type, condition.status, condition.reason) for condition in found]
    return "Conditions:\n" + rows(("Type", "Status", "Reason"), lines)


def _is_bookkeeping(annotation: str) -> bool:
    """What apply keeps for itself would fill the page."""
    return "last-applied" in annotation
