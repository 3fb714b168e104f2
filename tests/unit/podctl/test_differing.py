"""What `podctl diff` shows of two states."""

from __future__ import annotations

from podctl.differing import difference
from podwire import kinds, v1


def config_map(value: str, generation: int) -> v1.ConfigMap:
    made = v1.ConfigMap(metadata=v1.ObjectMeta(name="a", generation=generation, resource_version=str(generation)))
    made.data["k"] = value
    made.metadata.managed_fields.add(manager=value)
    return made


def test_only_what_was_asked_for_is_a_difference() -> None:
    assert difference(kinds.CONFIG_MAP, config_map("1", 1), config_map("1", 2)) == ""
    text = difference(kinds.CONFIG_MAP, config_map("1", 1), config_map("2", 2))
    assert text.startswith("--- live/configmap/a\n+++ merged/configmap/a\n")
    changed = [line for line in text.splitlines()[2:] if line[0] in "+-"]
    assert changed == ["-  k: '1'", "+  k: '2'"]


def test_who_set_what_is_shown_where_it_is_asked_for() -> None:
    text = difference(kinds.CONFIG_MAP, config_map("1", 1), config_map("2", 2), show_managed_fields=True)
    assert "-  - manager: '1'" in text


def test_an_object_that_would_be_made_is_all_new() -> None:
    lines = difference(kinds.CONFIG_MAP, None, config_map("1", 1)).splitlines()
    assert all(line.startswith("+") for line in lines[3:])


def test_values_of_secrets_are_not_shown() -> None:
    before = v1.Secret(metadata=v1.ObjectMeta(name="s"), data={"a": b"1", "b": b"2", "c": b"3"})
    after = v1.Secret(metadata=v1.ObjectMeta(name="s"), data={"a": b"1", "b": b"9", "d": b"4"})
    changed = [line for line in difference(kinds.SECRET, before, after).splitlines()[3:] if line[0] in "+-"]
    assert changed == ["-  b: '*** (before)'", "-  c: '***'", "+  b: '*** (after)'", "+  d: '***'"]
