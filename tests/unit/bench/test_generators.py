"""What the load generators take for a success, and for a failure."""

from __future__ import annotations

import pytest

from bench.api import COUNTER, LISTED_POD_BYTES, sized_pod
from bench.closed_loop import continue_of
from bench.http2 import Failed, check_trailers
from bench.watchers import Deliveries
from podwire import v1


def test_an_answer_with_another_status_than_ok_is_a_failure() -> None:
    check_trailers(b"\x00\x0bgrpc-status\x010")
    with pytest.raises(Failed):
        check_trailers(b"\x00\x0bgrpc-status\x0213\x00\x0cgrpc-message\x04oops")


def test_the_next_page_is_found_in_the_metadata_of_a_list() -> None:
    page = v1.PodList(metadata=v1.ListMeta(resource_version="7", remaining_item_count=300, epoch="e"))
    assert continue_of(page.SerializeToString()) == b""
    setattr(page.metadata, "continue", "t" * 200)
    assert continue_of(page.SerializeToString()) == b"t" * 200


def test_a_watcher_that_misses_repeats_or_reorders_an_event_is_a_failure() -> None:
    deliveries = Deliveries()
    deliveries.check(0, [0, 2])
    deliveries.check(0, [0])
    deliveries.check(1, [2, 1])
    for numbers in ([2], [0, 0], [0, 1]):
        with pytest.raises(Failed):
            deliveries.check(0, numbers)


def test_a_pod_has_the_size_that_is_asked_for() -> None:
    assert abs(sized_pod(f"pod-{COUNTER}", size=LISTED_POD_BYTES).ByteSize() - LISTED_POD_BYTES) <= 4
