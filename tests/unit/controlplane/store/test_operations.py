"""Ranges of prefixes."""

from __future__ import annotations

import pytest

from controlplane.store.operations import prefix_end


@pytest.mark.parametrize(
    ("prefix", "end"), [(b"/podwire/", b"/podwire0"), (b"a\xff", b"b"), (b"\xff\xff", b"\x00")], ids=repr
)
def test_the_end_of_a_prefix_is_what_comes_after_all_its_keys(prefix: bytes, end: bytes) -> None:
    assert prefix_end(prefix) == end
