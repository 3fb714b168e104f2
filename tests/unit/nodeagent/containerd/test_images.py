"""Manifests and configurations."""

import pytest

from nodeagent.containerd.images import BadImage, chain_id, choose_manifest, from_config


def manifest(digest: str, system: str, architecture: str) -> dict[str, object]:
    return {"digest": digest, "platform": {"os": system, "architecture": architecture}}


def test_the_manifest_of_this_architecture_is_chosen() -> None:
    index = {
        "manifests": [
            manifest("sha256:attestation", "unknown", "unknown"),
            manifest("sha256:windows", "windows", "amd64"),
            manifest("sha256:arm", "linux", "arm64"),
            manifest("sha256:intel", "linux", "amd64"),
        ]
    }
    assert choose_manifest(index, "amd64") == "sha256:intel"
    assert choose_manifest(index, "arm64") == "sha256:arm"
    with pytest.raises(BadImage, match=r"not made for linux/s390x; it is for .*windows/amd64"):
        choose_manifest(index, "s390x")


def test_a_manifest_that_names_no_platform_is_taken() -> None:
    assert choose_manifest({"manifests": [{"digest": "sha256:only"}]}, "amd64") == "sha256:only"


def test_chain_ids_are_those_of_the_specification() -> None:
    assert chain_id(["sha256:a"]) == "sha256:a"
    # printf 'sha256:a sha256:b' | sha256sum
    both = "sha256:970a948bffa8de94d6e22d747ba8c95030e6e546909f98f54e99a13005e173a8"
    assert chain_id(["sha256:a", "sha256:b"]) == both
    assert chain_id(["sha256:a", "sha256:b", "sha256:c"]) == chain_id([both, "sha256:c"])


def test_a_configuration_says_what_to_run() -> None:
    config = {
        "config": {
            "Entrypoint": ["/entry"],
            "Cmd": None,
            "Env": ["A=1"],
            "User": "web",
            "WorkingDir": "/srv",
            "StopSignal": "SIGQUIT",
        },
        "rootfs": {"diff_ids": ["sha256:layer"]},
    }
    image = from_config("docker.io/library/x:latest", "sha256:top", config)
    assert (image.entrypoint, image.command, image.env) == (("/entry",), (), ("A=1",))
    assert (image.user, image.working_dir, image.stop_signal) == ("web", "/srv", "SIGQUIT")
    assert (image.digest, image.chain_id) == ("sha256:top", "sha256:layer")


def test_a_configuration_without_layers_is_no_image() -> None:
    with pytest.raises(BadImage, match="no layers"):
        from_config("x", "sha256:top", {"config": {}})
