"""`podctl api-resources` and `podctl version`."""

from __future__ import annotations

import sys

from podctl.session import Session
from podctl.tables import Table
from podwire import errors, kinds


def api_resources(*, no_headers: bool) -> int:
    headers = ["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"]
    rows = [
        [kind.plural, ",".join(kind.short_names), kind.api_version, str(kind.namespaced).lower(), kind.name]
        for kind in sorted(kinds.KINDS, key=lambda kind: kind.plural)
    ]
    sys.stdout.write(Table([] if no_headers else headers).render(rows))
    return 0


async def version(session: Session) -> int:
    """Those of the API and the nodes, and whether the control plane answers."""
    try:
        nodes = await session.client.nodes.list(cached=True)
    except errors.PodwireError:
        print(f"API: podwire.v1 at {', '.join(session.settings.endpoints)} does not answer")
        raise
    print(f"API: podwire.v1 at {', '.join(session.settings.endpoints)}")
    versions = sorted({node.status.node_info.kubelet_version for node in nodes.items} - {""})
    print(f"Nodes: {len(nodes.items)}" + f" ({', '.join(versions)})" * bool(versions))
    return 0
