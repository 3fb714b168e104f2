"""The fence in a request's metadata."""

from __future__ import annotations

import pytest

from controlplane.services.callers import Fence, fence_of
from podwire import errors


def test_a_fence_is_the_revision_and_the_key() -> None:
    metadata = [("other", "x"), ("podwire-fence", "17:/podwire/elections/scheduler/1:2")]
    assert fence_of(metadata) == Fence(b"/podwire/elections/scheduler/1:2", 17)
    assert fence_of(None) is None


@pytest.mark.parametrize("text", ["", "17", "x:/key", "17:"])
def test_a_malformed_fence_is_refused_and_not_ignored(text: str) -> None:
    with pytest.raises(errors.Invalid):
        fence_of([("podwire-fence", text)])
