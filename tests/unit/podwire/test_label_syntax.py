"""Keys of labels, and what is remembered of those that were asked for."""

from __future__ import annotations

import pytest

from podwire import label_syntax


@pytest.mark.parametrize("key", ["app", "app.kubernetes.io/name", "a" * 63, f"{'.'.join(['b' * 62] * 4)}/{'a' * 63}"])
def test_a_key_may_have_a_domain_and_63_characters_after_it(key: str) -> None:
    assert label_syntax.is_key(key)


@pytest.mark.parametrize("key", ["", "-a", "a/", "/a", "a" * 64, "B.io/a", "a/b/c"])
def test_what_is_no_key(key: str) -> None:
    assert not label_syntax.is_key(key)


def test_keys_that_are_too_long_for_any_are_not_remembered() -> None:
    before = label_syntax._is_key.cache_info().currsize
    assert not label_syntax.is_key("a" * 1_000_000)
    assert label_syntax._is_key.cache_info().currsize == before
