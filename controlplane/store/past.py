"""Lists of revisions for which a kind's cache has no history any more: etcd keeps it for longer, so etcd is asked.

A busy kind's cache may forget within seconds what the later pages of a list need; etcd forgets when it is compacted.
"""

from __future__ import annotations

from typing import Final

from controlplane.store import entries, keys
from controlplane.store import operations as op
from controlplane.store.entries import Entry
from controlplane.store.etcd import Etcd
from controlplane.store.kind_cache import Page
from controlplane.store.selection import Selection

# Objects a Range asks for at once.
_AT_ONCE: Final = 500


class Past:
    def __init__(self, etcd: Etcd) -> None:
        self._etcd = etcd

    async def page(self, selection: Selection, revision: int, after: str, limit: int, max_bytes: int) -> Page:
        """What `KindCache.page` gives, read from etcd. Raises Compacted where etcd has forgotten it too."""
        kind = selection.kind
        prefix = keys.namespace_prefix(kind, selection.namespace)
        start, end = prefix, op.prefix_end(prefix)
        if after:
            start = max(start, keys.object_key(kind, after) + b"\x00")
        chosen: list[Entry] = []
        size = 0
        while True:
            found = await self._etcd.range(start, end, revision=revision, limit=_AT_ONCE)
            for index, kv in enumerate(found.items):
                parsed = keys.parse(kv.key)
                assert parsed is not None, kv.key
                entry = entries.make(*parsed, kv.value, kv.mod_revision)
                if not selection.matches(entry):
                    continue
                size += len(entry.item)
                if chosen and (size > max_bytes or (limit and len(chosen) >= limit)):
                    return Page(chosen, chosen[-1].key, found.count - index)
                chosen.append(entry)
            if not found.more:
                return Page(chosen, "", 0)
            start = found.items[-1].key + b"\x00"
