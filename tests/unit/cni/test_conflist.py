"""Configuration lists: what is taken, what is refused, and which file of a folder counts."""

import json
from pathlib import Path
from typing import Any

import pytest

from cni.conflist import default_conflist, load, parse
from cni.errors import CniError

LIST: dict[str, Any] = {"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "bridge"}, {"type": "portmap"}]}


def test_a_list_keeps_the_order_of_its_plugins() -> None:
    conflist = parse(LIST, "it")
    assert [plugin["type"] for plugin in conflist.plugins] == ["bridge", "portmap"]
    assert not conflist.is_ours


def test_the_newest_version_that_both_speak_is_taken() -> None:
    assert parse(LIST | {"cniVersions": ["0.4.0", "1.1.0", "7.0.0"]}, "it").version == "1.1.0"


@pytest.mark.parametrize("word", [True, "true"])
def test_check_and_gc_can_be_switched_off(word: object) -> None:
    conflist = parse(LIST | {"disableCheck": word, "disableGC": word}, "it")
    assert conflist.disable_check
    assert conflist.disable_gc


def test_everything_wrong_is_in_one_error() -> None:
    with pytest.raises(CniError) as caught:
        parse({"cniVersion": "9.0.0", "name": "", "plugins": [{}, {"type": "a/b"}], "disableGC": "maybe"}, "x.conflist")
    said = str(caught.value)
    for part in ("x.conflist", "name:", "cniVersion:", "plugins[0].type:", "plugins[1].type:", "disableGC:"):
        assert part in said


@pytest.mark.parametrize("raw", [[], "text", None, {"cniVersion": "1.0.0", "name": "n", "plugins": []}])
def test_what_is_no_list_is_refused(raw: object) -> None:
    with pytest.raises(CniError):
        parse(raw, "it")


def test_the_first_file_by_name_counts(tmp_path: Path) -> None:
    (tmp_path / "20-b.conflist").write_text(json.dumps(LIST | {"name": "second"}))
    (tmp_path / "10-a.conflist").write_text(json.dumps(LIST | {"name": "first"}))
    (tmp_path / "00-readme.txt").write_text("not a list")
    assert load(tmp_path).name == "first"


def test_a_single_configuration_is_a_list_of_one(tmp_path: Path) -> None:
    (tmp_path / "10-a.conf").write_text(json.dumps({"cniVersion": "1.0.0", "name": "one", "type": "bridge"}))
    assert [plugin["type"] for plugin in load(tmp_path).plugins] == ["bridge"]


def test_an_empty_folder_a_missing_one_and_broken_json_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(CniError, match="has no network configuration list"):
        load(tmp_path)
    with pytest.raises(CniError, match="cannot be read"):
        load(tmp_path / "none")
    (tmp_path / "10-a.conflist").write_text("{")
    with pytest.raises(CniError, match="cannot be read as JSON"):
        load(tmp_path)


def test_the_default_list_is_our_plugin_alone() -> None:
    conflist = default_conflist("10.244.3.0/24", pod_network="10.244.0.0/16", mtu=1400)
    assert conflist.is_ours
    assert dict(conflist.plugins[0]) == {
        "type": "podwire",
        "bridge": "podwire0",
        "subnet": "10.244.3.0/24",
        "podNetwork": "10.244.0.0/16",
        "ipMasq": True,
        "mtu": 1400,
    }


def test_a_list_survives_being_written_down() -> None:
    conflist = parse(LIST | {"disableGC": True}, "it")
    assert parse(conflist.to_json(), "the copy") == conflist
