"""The cache of a kind, fed by hand: lists at a revision, watches, history."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.store import entries, wire
from controlplane.store.channels import BATCH_BYTES, Watcher
from controlplane.store.kind_cache import KindCache, Limits
from controlplane.store.selection import Selection
from controlplane.store.waking import Waker
from podwire import errors, kinds, v1


def pod(name: str, *, namespace: str = "default", node: str = "", labels: dict[str, str] | None = None) -> v1.Pod:
    made = v1.Pod(metadata=v1.ObjectMeta(name=name, namespace=namespace))
    made.metadata.labels.update(labels or {})
    made.spec.node_name = node
    return made


class Feed:
    """A cache of pods, and the revision of the last change it was given."""

    def __init__(self, **limits: int) -> None:
        self.cache = KindCache(kinds.POD, Limits(**limits), Waker())
        self.revision = 100
        self.cache.reset([], self.revision)

    def put(self, obj: v1.Pod, *, same_revision: bool = False) -> int:
        self.revision += 0 if same_revision else 1
        key = f"{obj.metadata.namespace}/{obj.metadata.name}"
        self.cache.apply(self.revision, key, entries.make(kinds.POD, key, wire.encode(obj), self.revision))
        return self.revision

    def delete(self, key: str) -> int:
        self.revision += 1
        self.cache.apply(self.revision, key, None)
        return self.revision

    def watch(self, revision: int | None = None, /, **selection: str) -> Watcher:
        return self.cache.watch(select(**selection), self.revision if revision is None else revision)

    def names(self, revision: int | None = None, /, **selection: str) -> list[str]:
        at = self.revision if revision is None else revision
        return [e.key for e in self.cache.page(select(**selection), at, "", 0, BATCH_BYTES).entries]


def select(namespace: str = "", labels: str = "", fields: str = "") -> Selection:
    return Selection.parse(kinds.POD, namespace, labels, fields)


def taken(watcher: Watcher) -> list[tuple[str, str, int]]:
    """Type, name and revision of each event that there is to take."""
    events: list[Any] = []
    while batch := watcher.take():
        events += v1.PodWatchResponse.FromString(batch).events
    return [(e.type, e.object.metadata.name, int(e.object.metadata.resource_version)) for e in events]


def test_a_watch_delivers_every_change_after_its_revision_in_order() -> None:
    feed = Feed()
    feed.put(pod("before"))
    watcher = feed.watch()
    first = feed.put(pod("a"))
    second = feed.put(pod("a", labels={"x": "y"}))
    third = feed.delete("default/a")
    assert taken(watcher) == [("ADDED", "a", first), ("MODIFIED", "a", second), ("DELETED", "a", third)]
    assert taken(watcher) == []


def test_a_watch_resumes_from_history_and_goes_on_with_what_comes() -> None:
    feed = Feed()
    first = feed.put(pod("a"))
    second = feed.put(pod("b"))
    watcher = feed.watch(first)
    third = feed.put(pod("c"))
    assert taken(watcher) == [("ADDED", "b", second), ("ADDED", "c", third)]


def test_an_object_that_leaves_the_selection_is_deleted_for_its_watchers() -> None:
    feed = Feed()
    watcher = feed.watch(labels="app=web")
    first = feed.put(pod("a", labels={"app": "web"}))
    second = feed.put(pod("a", labels={"app": "db"}))
    feed.put(pod("a", labels={"app": "mail"}))
    feed.delete("default/a")
    fifth = feed.put(pod("a", labels={"app": "web"}))
    assert taken(watcher) == [("ADDED", "a", first), ("DELETED", "a", second), ("ADDED", "a", fifth)]


def test_a_deleted_event_carries_the_last_state_that_was_selected() -> None:
    feed = Feed()
    watcher = feed.watch(labels="app=web")
    feed.put(pod("a", labels={"app": "web"}))
    feed.put(pod("a", labels={"app": "db"}))
    last = v1.PodWatchResponse.FromString(watcher.take()).events[-1].object
    assert dict(last.metadata.labels) == {"app": "web"}
    assert last.metadata.resource_version == str(feed.revision)


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({}, ["a", "b", "c"]),
        ({"namespace": "default"}, ["a", "b"]),
        ({"fields": "spec.nodeName=n1"}, ["a", "c"]),
        ({"fields": "spec.nodeName=n1", "namespace": "other"}, ["c"]),
        ({"fields": "spec.nodeName!=n1"}, ["b"]),
        ({"fields": "metadata.name=a"}, ["a"]),
        ({"fields": "metadata.name=a", "namespace": "default"}, ["a"]),
        ({"fields": "metadata.name=a", "namespace": "other"}, []),
        ({"fields": "metadata.namespace=other"}, ["c"]),
        ({"labels": "app"}, ["b"]),
        ({"labels": "app notin (x),!gone"}, ["a", "b", "c"]),
    ],
)
def test_lists_and_watches_select_the_same(selection: dict[str, str], expected: list[str]) -> None:
    feed = Feed()
    live = feed.watch(**selection)
    start = feed.revision
    feed.put(pod("a", node="n1"))
    feed.put(pod("b", node="n2", labels={"app": "web"}))
    feed.put(pod("c", node="n1", namespace="other"))
    resumed = feed.watch(start, **selection)
    initial = feed.cache.watch_with_initial(select(**selection), feed.revision, end_mark="end")
    assert [name.partition("/")[2] for name in feed.names(**selection)] == expected
    assert [name for _, name, _ in taken(live)] == expected
    assert [name for _, name, _ in taken(resumed)] == expected
    assert [name for kind, name, _ in taken(initial) if kind == "ADDED"] == expected


def test_a_pod_that_moves_between_nodes_meets_the_watchers_of_both() -> None:
    feed = Feed()
    old, new = feed.watch(fields="spec.nodeName=n1"), feed.watch(fields="spec.nodeName=n2")
    first = feed.put(pod("a", node="n1"))
    second = feed.put(pod("a", node="n2"))
    assert taken(old) == [("ADDED", "a", first), ("DELETED", "a", second)]
    assert taken(new) == [("ADDED", "a", second)]


def test_initial_events_end_with_an_annotated_bookmark_and_go_on_with_changes() -> None:
    feed = Feed()
    first = feed.put(pod("a"))
    watcher = feed.cache.watch_with_initial(select(), feed.revision, end_mark="podwire.io/end")
    second = feed.put(pod("b"))
    response = v1.PodWatchResponse.FromString(watcher.take())
    assert [event.type for event in response.events] == ["ADDED", "BOOKMARK"]
    assert response.events[1].object.metadata.annotations["podwire.io/end"] == "true"
    assert response.events[1].object.metadata.resource_version == str(first)
    assert taken(watcher) == [("ADDED", "b", second)]


def test_a_list_shows_the_past_by_undoing_what_has_changed() -> None:
    feed = Feed()
    feed.put(pod("a"))
    feed.put(pod("b", labels={"v": "1"}))
    past = feed.revision
    feed.put(pod("b", labels={"v": "2"}))
    feed.delete("default/a")
    feed.put(pod("a"))
    feed.put(pod("c"))
    assert feed.names(past) == ["default/a", "default/b"]
    assert feed.names(past, labels="v=1") == ["default/b"]
    assert feed.names() == ["default/a", "default/b", "default/c"]


def test_pages_of_one_revision_join_without_gap_or_repetition() -> None:
    feed = Feed()
    for number in range(25):
        feed.put(pod(f"p{number:02}", namespace="a" if number % 2 else "b"))
    revision, last, seen = feed.revision, "", []
    while True:
        page = feed.cache.page(select(), revision, last, 4, BATCH_BYTES)
        seen += [entry.key for entry in page.entries]
        assert len(page.entries) <= 4
        feed.put(pod(f"new{len(seen):02}"))
        feed.delete(seen[0]) if len(seen) == 4 else None
        if not page.last:
            break
        assert page.remaining == 25 - len(seen)
        last = page.last
    assert len(seen) == len(set(seen)) == 25
    assert seen == sorted(seen)


def test_equal_lists_share_their_bytes_until_something_changes() -> None:
    feed = Feed()
    feed.put(pod("a"))
    feed.put(pod("b", namespace="other"))

    def items(**selection: str) -> bytes:
        return feed.cache.page(select(**selection), feed.revision, "", 0, BATCH_BYTES).items

    assert items() is items()
    assert [p.metadata.name for p in v1.PodList.FromString(items()).items] == ["a", "b"]
    assert [p.metadata.name for p in v1.PodList.FromString(items(namespace="other")).items] == ["b"]
    before = feed.revision
    feed.put(pod("c"))
    assert [p.metadata.name for p in v1.PodList.FromString(items()).items] == ["a", "c", "b"]
    assert feed.names(before) == ["default/a", "other/b"]
    feed.delete("default/a")
    assert [p.metadata.name for p in v1.PodList.FromString(items()).items] == ["c", "b"]
    feed.revision += 1
    feed.cache.reset([], feed.revision)
    assert items() == b""


def test_a_page_ends_at_its_bytes_but_has_at_least_one_object() -> None:
    feed = Feed()
    for name in ("a", "b", "c"):
        feed.put(pod(name, labels={"l": "x" * 60}))
    size = len(feed.cache.entries["default/a"].item)
    assert len(feed.cache.page(select(), feed.revision, "", 0, 2 * size).entries) == 2
    assert len(feed.cache.page(select(), feed.revision, "", 0, 1).entries) == 1


def test_history_is_bounded_and_what_is_older_is_refused() -> None:
    feed = Feed(history_count=3)
    revisions = [feed.put(pod(name)) for name in ("a", "b", "c", "d", "e")]
    assert taken(feed.watch(revisions[1])) == [(("ADDED"), n, r) for n, r in zip("cde", revisions[2:], strict=True)]
    with pytest.raises(errors.HistoryLost):
        feed.watch(revisions[0])
    with pytest.raises(errors.HistoryLost):
        feed.names(revisions[0])


def test_history_is_bounded_by_bytes() -> None:
    feed = Feed(history_bytes=4_000)
    for number in range(100):
        feed.put(pod(f"p{number}", labels={"l": "x" * 60}))
    assert 5 < feed.cache.history < 20


def test_a_reset_ends_every_watch_and_makes_its_revision_the_oldest() -> None:
    feed = Feed()
    watcher = feed.watch()
    feed.cache.reset([], 500)
    with pytest.raises(errors.HistoryLost):
        watcher.take()
    with pytest.raises(errors.HistoryLost):
        feed.watch(499)
    feed.revision = 500
    assert taken(feed.watch(500)) == []


def test_a_deletion_of_what_is_not_there_is_no_change() -> None:
    feed = Feed()
    watcher = feed.watch()
    feed.delete("default/nobody")
    assert taken(watcher) == []
