"""Whole objects as -o prints them."""

import json

import pytest

from podctl.output import render
from podwire import v1
from podwire.kinds import CONFIG_MAP


def config_map(name: str) -> v1.ConfigMap:
    made = v1.ConfigMap(metadata=v1.ObjectMeta(name=name), data={"key": "value"})
    made.metadata.managed_fields.add(manager="podctl", operation="Apply")
    return made


@pytest.mark.parametrize(("shown", "fields"), [(False, {"name"}), (True, {"name", "managedFields"})])
def test_who_set_which_field_is_shown_when_asked_for(shown: bool, fields: set[str]) -> None:
    text = render("json", [(CONFIG_MAP, config_map("a"))], single=True, show_managed_fields=shown)

    assert json.loads(text)["metadata"].keys() == fields


def test_an_object_asked_for_by_name_stands_alone_and_others_in_a_list() -> None:
    one, two = (CONFIG_MAP, config_map("a")), (CONFIG_MAP, config_map("b"))

    assert json.loads(render("json", [one], single=True))["kind"] == "ConfigMap"
    assert [item["metadata"]["name"] for item in json.loads(render("json", [one, two], single=False))["items"]] == [
        "a",
        "b",
    ]


def test_names_say_the_kind() -> None:
    assert render("name", [(CONFIG_MAP, config_map("a"))], single=False) == "configmap/a\n"
