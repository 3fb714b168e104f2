"""What `podwire-cni` says before it touches anything: versions and errors of the CNI specification."""

import json
from collections.abc import Mapping

import pytest

from cni.__main__ import answer
from cni.errors import (
    DECODING_FAILURE,
    INCOMPATIBLE_VERSION,
    INVALID_CONFIGURATION,
    INVALID_ENVIRONMENT,
    CniError,
)

CONFIGURATION = {"cniVersion": "1.1.0", "name": "podwire", "type": "podwire", "subnet": "10.244.1.0/24"}
ENVIRONMENT = {"CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0", "CNI_NETNS": "/run/netns/none"}


def refused(command: str, stdin: str, environment: Mapping[str, str] = ENVIRONMENT) -> CniError:
    with pytest.raises(CniError) as caught:
        answer(command, stdin, environment)
    return caught.value


def test_version_lists_what_is_spoken_and_repeats_what_was_asked() -> None:
    said = answer("VERSION", json.dumps({"cniVersion": "1.0.0"}), {})
    assert said == {"cniVersion": "1.0.0", "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]}


def test_an_unknown_command_names_the_known_ones() -> None:
    error = refused("FROB", json.dumps(CONFIGURATION))
    assert error.code == INVALID_ENVIRONMENT
    assert "ADD, DEL, CHECK, GC, STATUS, VERSION" in error.message


@pytest.mark.parametrize("stdin", ["", "{", "[]", '"text"'])
def test_what_is_no_json_object_cannot_be_decoded(stdin: str) -> None:
    assert refused("ADD", stdin).code == DECODING_FAILURE


@pytest.mark.parametrize("verb", ["ADD", "DEL", "CHECK", "GC", "STATUS"])
def test_a_version_that_is_not_spoken_is_refused_by_every_verb(verb: str) -> None:
    stdin = json.dumps(CONFIGURATION | {"cniVersion": "2.0.0", "cni.dev/valid-attachments": []})
    assert refused(verb, stdin).code == INCOMPATIBLE_VERSION


@pytest.mark.parametrize(("verb", "version"), [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0")])
def test_a_verb_that_is_younger_than_the_version_is_refused(verb: str, version: str) -> None:
    assert refused(verb, json.dumps(CONFIGURATION | {"cniVersion": version})).code == INCOMPATIBLE_VERSION


def test_all_that_is_missing_in_the_environment_is_in_one_error() -> None:
    error = refused("ADD", json.dumps(CONFIGURATION), {})
    assert error.code == INVALID_ENVIRONMENT
    for name in ("CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS"):
        assert name in error.details


@pytest.mark.parametrize("container_id", ["../c", "a/b", "-c", ""])
def test_a_container_id_that_is_no_name_is_refused(container_id: str) -> None:
    environment = {**ENVIRONMENT, "CNI_CONTAINERID": container_id}
    assert refused("DEL", json.dumps(CONFIGURATION), environment).code == INVALID_ENVIRONMENT


def test_gc_without_the_list_of_valid_attachments_collects_nothing() -> None:
    assert refused("GC", json.dumps(CONFIGURATION)).code == INVALID_CONFIGURATION


def test_an_error_is_an_object_of_the_specification() -> None:
    assert CniError(7, "what", "why").to_json("1.0.0") == {
        "cniVersion": "1.0.0",
        "code": 7,
        "msg": "what",
        "details": "why",
    }
