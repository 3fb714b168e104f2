"""The agent's command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeagent.settings import parse

NEEDED = ["--node-name=node1", "--node-ip=10.77.0.11"]


def test_paths_have_defaults_for_a_node_of_its_own() -> None:
    command, settings = parse(["run", *NEEDED, "--api=unix:/run/api.sock"])
    assert command == "run"
    assert settings.containerd == Path("/run/containerd/containerd.sock")
    assert settings.containerd_namespace == "k8s.io"
    assert settings.tls is None
    assert settings.cni_conf_dir is None


def test_several_replicas_and_labels_are_taken_apart(tmp_path: Path) -> None:
    for name in ("ca", "cert", "key"):
        (tmp_path / name).touch()
    files = [f"--tls-{name}={tmp_path / name}" for name in ("ca", "cert", "key")]
    _, settings = parse(["check", *NEEDED, "--api=a:6440, b:6440", *files, "--label=zone=a", "--label=k=v=w"])
    assert settings.api == ("a:6440", "b:6440")
    assert settings.tls is not None and settings.tls.cert == tmp_path / "cert"
    assert settings.labels == {"zone": "a", "k": "v=w"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--api=a:6440"], "--tls-ca, --tls-cert and --tls-key are needed"),
        (["--api=unix:/s", "--tls-ca=/x"], "go together"),
        (["--api=unix:/s", "--tls-ca=/no/ca", "--tls-cert=/no/c", "--tls-key=/no/k"], "there is no file /no/ca"),
        (["--api=,"], "at least one HOST:PORT is needed"),
        (["--api=unix:/s", "--label=zone"], "'zone' is not KEY=VALUE"),
        (["--api=unix:/s", "--node-ip=node1"], "'node1' does not appear to be an IPv4 or IPv6 address"),
    ],
)
def test_wrong_arguments_are_explained(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["run", *NEEDED, *arguments])
    assert message in capsys.readouterr().err
