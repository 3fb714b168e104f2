"""Where a client finds its control plane."""

from pathlib import Path

import pytest

from podwire import config
from podwire.client import Tls
from podwire.errors import Invalid


def written(path: Path, text: str = "endpoints: ['unix:/run/api.sock']") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def load(root: Path, path: Path | None = None, **environment: str) -> config.Config:
    return config.load(
        path,
        environment={"HOME": str(root / "home"), **environment},
        system=root / "etc" / "config",
        labs=root / "labs",
    )


def test_a_file_says_everything(tmp_path: Path) -> None:
    text = "{endpoints: [10.0.0.1:6440, 10.0.0.2:6440], tls: {ca: ca.pem, cert: /c.pem, key: k.pem}, namespace: shop}"
    found = load(tmp_path, written(tmp_path / "config", text))
    assert found.endpoints == ("10.0.0.1:6440", "10.0.0.2:6440")
    assert found.tls == Tls(tmp_path / "ca.pem", Path("/c.pem"), tmp_path / "k.pem")
    assert found.namespace == "shop"


def test_the_nearest_file_counts(tmp_path: Path) -> None:
    lab = written(tmp_path / "labs" / "podwire" / "client.yaml")
    assert load(tmp_path).path == lab
    system = written(tmp_path / "etc" / "config")
    assert load(tmp_path).path == system
    own = written(tmp_path / "home" / ".podwire" / "config")
    assert load(tmp_path).path == own
    named = written(tmp_path / "named")
    assert load(tmp_path, PODWIRE_CONFIG=str(named)).path == named
    assert load(tmp_path, own, PODWIRE_CONFIG=str(named)).path == own
    assert load(tmp_path).namespace == "default"


def test_without_any_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"start a lab .* or name a configuration file"):
        load(tmp_path)


def test_of_several_labs_one_must_be_chosen(tmp_path: Path) -> None:
    for name in ("one", "two"):
        written(tmp_path / "labs" / name / "client.yaml")
    with pytest.raises(Invalid, match=r"several labs are running \(one, two\)"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must hold one mapping"),
        ("[a]", "must hold one mapping"),
        ("endpoint: a", "endpoint: unknown field"),
        ("endpoints: a", "endpoints: must be a list of addresses"),
        ("endpoints: []", "endpoints: must be a list of addresses"),
        ("{endpoints: [a], tls: {ca: x}}", "tls: must name three files"),
        ("{endpoints: [a], namespace: 3}", "namespace: must be text"),
        ("endpoints: [", "not valid YAML"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        load(tmp_path, written(tmp_path / "config", text))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"cannot read .*/nothing: No such file"):
        load(tmp_path, tmp_path / "nothing")
