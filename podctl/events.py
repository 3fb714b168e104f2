"""`podctl events`: what happened, in order; `--for` to one object, `-w` as it goes on."""

from __future__ import annotations

import sys
import time
from typing import Any

from podctl.columns import event_age, event_object
from podctl.getting import Selection, changes, list_kind
from podctl.session import Session
from podctl.tables import Table
from podctl.targets import parse_target
from podwire import kinds
from podwire.client import DELETED


async def events(session: Session, *, about: str, types: str, all_namespaces: bool, watch: bool) -> int:
    terms = []
    if about:
        target = parse_target(about, kinds.POD)
        terms += [f"involvedObject.kind={target.kind.name}", f"involvedObject.name={target.name}"]
    wanted = {type_.strip().lower() for type_ in types.split(",") if type_.strip()}
    selection = Selection(fields=",".join(terms))
    listed = await list_kind(session, kinds.EVENT, selection, all_namespaces=all_namespaces)
    namespace_header = ["NAMESPACE"] if all_namespaces else []
    table = Table([*namespace_header, "LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"])

    def show(found: list[Any]) -> None:
        now = time.time()
        rows = [
            [
                *([event.metadata.namespace] if all_namespaces else []),
                event_age(event, now),
                event.type,
                event.reason,
                event_object(event),
                event.message.strip(),
            ]
            for event in found
            if not wanted or event.type.lower() in wanted
        ]
        sys.stdout.write(table.render(rows))
        sys.stdout.flush()

    show(listed.items)
    if watch:
        async for change, event in changes(session, kinds.EVENT, selection, listed, all_namespaces=all_namespaces):
            if change != DELETED:
                show([event])
    elif not listed.items:
        where = "" if all_namespaces else f" in {session.namespace} namespace."
        print(f"No events found{where}", file=sys.stderr)
    return 0
