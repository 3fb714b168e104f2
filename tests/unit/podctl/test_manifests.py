"""Reading what -f names, and all that is wrong with it."""

import io
from pathlib import Path

import pytest

from podctl import manifests
from podctl.failures import CommandError, Rejected, UsageError, explain

POD = """\
apiVersion: v1
kind: Pod
metadata:
  name: {name}
spec:
  containers:
  - name: main
    image: {image}
"""


def pod(name: str = "web", image: str = "nginx") -> str:
    return POD.format(name=name, image=image)


def names(files: list[str], *, recursive: bool = False) -> list[str]:
    return [manifests.name_of(document) for document in manifests.read(files, recursive=recursive)]


def test_files_and_folders_are_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(pod("b1") + "---\n" + pod("b2"))
    (tmp_path / "a.yml").write_text(pod("a"))
    (tmp_path / "notes.txt").write_text("not a manifest")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "c.json").write_text('{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "c"}}')
    assert names([str(tmp_path)]) == ["a", "b1", "b2"]
    assert names([str(tmp_path)], recursive=True) == ["a", "b1", "b2", "c"]
    assert names([str(tmp_path / "b.yaml"), str(tmp_path / "a.yml")]) == ["b1", "b2", "a"]


def test_stdin_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(pod()))
    assert names(["-"]) == ["web"]


def test_a_document_without_namespace_is_in_the_given_one(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(pod() + "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: space}\n")
    (tmp_path / "own.yaml").write_text(pod().replace("  name: web", "  name: web\n  namespace: own"))
    documents = manifests.read([str(tmp_path)], recursive=False)
    assert [manifests.namespace_of(document, "given") for document in documents] == ["given", "", "own"]


def test_every_bad_document_of_every_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(pod("Web", '""') + "---\napiVersion: v1\nkind: Pood\n")
    (tmp_path / "b.yaml").write_text(pod().replace("image", "imagee"))
    (tmp_path / "c.yaml").write_text("a: [")
    (tmp_path / "good.yaml").write_text(pod())
    with pytest.raises(Rejected) as rejected:
        manifests.read_valid([str(tmp_path)], "default", recursive=False, explicit=False)
    text = explain(rejected.value)
    for place in (
        "a.yaml:4",
        "spec.containers[0].image",
        'a.yaml:10: unknown kind "Pood"',
        "b.yaml:8",
        "spec.containers[0].imagee",
        "c.yaml",
    ):
        assert place in text
    assert "good.yaml" not in text


def test_a_namespace_that_contradicts_the_command_line_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(pod().replace("  name: web", "  name: web\n  namespace: own"))
    manifests.read_valid([str(file)], "given", recursive=False, explicit=False)
    with pytest.raises(Rejected) as rejected:
        manifests.read_valid([str(file)], "given", recursive=False, explicit=True)
    assert 'is "own", but -n says "given" ' in explain(rejected.value)


def test_no_file_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        manifests.read([], recursive=False)


@pytest.mark.parametrize("content", [None, b"", b"# only a comment\n", b"\xff\xfe"])
def test_files_that_hold_nothing_say_so(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "a.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CommandError, match=r"a\.yaml"):
        manifests.read([str(file)], recursive=False)


def test_a_folder_without_manifests_says_so(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no files that end in"):
        manifests.read([str(tmp_path)], recursive=False)
