"""`podctl describe`: everything about an object on a page, in kubectl's words and order.

A describer is a pure function of the object, what was looked up for it, and the time; it writes text with tabs, which
are made columns at the end. This module does the looking up.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from podctl.columns import event_order
from podctl.describing import generic, nodes, pods, services, workloads
from podctl.describing.page import describe_events
from podctl.failures import UsageError
from podctl.getting import Selection, list_kind
from podctl.session import Session, complain
from podctl.tables import align
from podctl.targets import Target, parse_targets
from podwire import errors, kinds
from podwire.kinds import Kind

_SERVICE_NAME_LABEL = "kubernetes.io/service-name"


async def describe(session: Session, words: Sequence[str], *, labels: str, all_namespaces: bool) -> int:
    targets = parse_targets(words)
    if labels and any(target.name for target in targets):
        raise UsageError("names and selectors cannot be combined")
    shown = status = 0
    for target in targets:
        try:
            objects = await _objects(session, target, labels, all_namespaces)
        except errors.NotFound as error:
            status = complain(error)
            continue
        for obj in objects:
            if shown:
                print("\n")
            sys.stdout.write(await page(session, target.kind, obj))
            shown += 1
    if not shown and not status:
        print("No resources found", file=sys.stderr)
    return status


async def page(session: Session, kind: Kind, obj: Any) -> str:
    """The object's description."""
    now = time.time()
    match kind:
        case kinds.POD:
            text = pods.describe(obj)
        case kinds.NODE:
            on_node = await session.client.pods.list(field_selector=f"spec.nodeName={obj.metadata.name}")
            text = nodes.describe(obj, on_node.items, now)
        case kinds.SERVICE:
            slices = await session.client.endpoint_slices.list(
                namespace=obj.metadata.namespace, label_selector=f"{_SERVICE_NAME_LABEL}={obj.metadata.name}"
            )
            text = services.describe(obj, slices.items)
        case kinds.DEPLOYMENT:
            sets = await session.client.replica_sets.list(namespace=obj.metadata.namespace)
            text = workloads.describe_deployment(obj, [each for each in sets.items if _owns(obj, each)])
        case kinds.REPLICA_SET:
            owned = await session.client.pods.list(namespace=obj.metadata.namespace)
            text = workloads.describe_replica_set(obj, [each for each in owned.items if _owns(obj, each)])
        case _:
            text = generic.describe(kind, obj)
    return align(text + describe_events(await _events(session, kind, obj), now))


async def _objects(session: Session, target: Target, labels: str, all_namespaces: bool) -> list[Any]:
    if target.name:
        return [await session.fetch(target.kind, target.name)]
    return (await list_kind(session, target.kind, Selection(labels), all_namespaces=all_namespaces)).items


async def _events(session: Session, kind: Kind, obj: Any) -> list[Any]:
    """The events about this very object: one of the same name before it had another uid."""
    if kind is kinds.EVENT:
        return []
    fields = f"involvedObject.kind={kind.name},involvedObject.name={obj.metadata.name}"
    listed = await session.client.events.list(namespace=obj.metadata.namespace, field_selector=fields)
    about = [event for event in listed.items if event.involved_object.uid in ("", obj.metadata.uid)]
    # Events about a node name it instead of its uid, as the kubelet's do.
    if kind is kinds.NODE:
        about = listed.items
    return sorted(about, key=event_order)


def _owns(owner: Any, obj: Any) -> bool:
    return any(reference.uid == owner.metadata.uid for reference in obj.metadata.owner_references)
