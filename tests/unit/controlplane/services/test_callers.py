"""The fence in a request's metadata, and the manager of the fields that it changes."""

from __future__ import annotations

import pytest

from controlplane.services.callers import Fence, fence_of, manager_of
from podwire import errors


def test_a_fence_is_the_revision_and_the_key() -> None:
    metadata = [("other", "x"), ("podwire-fence", "17:/podwire/elections/scheduler/1:2")]
    assert fence_of(metadata) == Fence(b"/podwire/elections/scheduler/1:2", 17)
    assert fence_of(None) is None


@pytest.mark.parametrize("text", ["", "17", "x:/key", "17:"])
def test_a_malformed_fence_is_refused_and_not_ignored(text: str) -> None:
    with pytest.raises(errors.Invalid):
        fence_of([("podwire-fence", text)])


def test_fields_belong_to_who_is_named_or_else_to_the_leader_or_to_nobody_known() -> None:
    leader = Fence(b"/podwire/elections/scheduler", 17)
    assert manager_of("team-a", leader) == "team-a"
    assert manager_of("", leader) == "podwire-scheduler"
    assert manager_of("", None) == "unknown"
