import io
import json
import tarfile
from typing import Any

import pytest

from lab import oci
from lab.errors import ArchiveError
from lab.oci import File, Folder, Link

TREE: oci.Tree = {
    "bin/sh": Link("/bin/busybox"),
    "bin/busybox": File(b"\x7fELF", 0o755),
    "tmp": Folder(0o1777),
}


def archive(files: dict[str, Any]) -> io.BytesIO:
    """A tar file; trees become JSON."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            content = content if isinstance(content, bytes) else json.dumps(content).encode()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    out.seek(0)
    return out


def test_the_same_files_in_any_order_give_the_same_layer() -> None:
    assert oci.layer(TREE).digest == oci.layer(dict(reversed(list(TREE.items())))).digest


def test_a_layer_has_the_folders_of_its_files_before_them_and_their_modes() -> None:
    with tarfile.open(fileobj=io.BytesIO(oci.layer(TREE).content)) as tar:
        members = [(info.name, info.mode, info.mtime, info.uid) for info in tar.getmembers()]
    assert members == [
        ("bin", 0o755, 0, 0),
        ("bin/busybox", 0o755, 0, 0),
        ("bin/sh", 0o777, 0, 0),
        ("tmp", 0o1777, 0, 0),
    ]


def test_an_image_tells_how_it_starts_and_which_layers_it_has() -> None:
    layer = oci.layer(TREE)
    image = oci.image([("library/x", "latest")], [layer], architecture="amd64", Cmd=["sh"], StopSignal="SIGQUIT")
    config = json.loads(image.config.content)
    assert config["config"] == {"Cmd": ["sh"], "StopSignal": "SIGQUIT"}
    assert config["rootfs"]["diff_ids"] == [layer.digest]
    manifest = json.loads(image.manifest.content)
    assert manifest["config"]["digest"] == image.config.digest
    assert manifest["layers"] == [{"mediaType": oci.LAYER, "digest": layer.digest, "size": len(layer.content)}]


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("nginx", ("library/nginx", "latest")),
        ("nginx:1.22", ("library/nginx", "1.22")),
        ("docker.io/library/nginx:1.22", ("library/nginx", "1.22")),
        ("docker.io/nginx", ("library/nginx", "latest")),
        ("me/app:2", ("me/app", "2")),
        ("registry.k8s.io/pause:3", ("pause", "3")),
        ("registry.k8s.io/dns/coredns:1", ("dns/coredns", "1")),
        ("localhost:5000/app", ("app", "latest")),
        ("localhost/app:1", ("app", "1")),
    ],
)
def test_a_reference_becomes_the_name_that_a_mirror_is_asked_for(reference: str, expected: tuple[str, str]) -> None:
    assert oci.repository(reference) == expected


def test_what_docker_save_writes_is_read() -> None:
    layer = oci.layer(TREE).content
    manifest = [{"Config": "c.json", "RepoTags": ["app:1", "registry.example/app:1"], "Layers": ["a/layer.tar"]}]
    (image,) = oci.read_archive(archive({"manifest.json": manifest, "c.json": b"{}", "a/layer.tar": layer}))
    assert image.names == (("library/app", "1"), ("app", "1"))
    assert image.layers[0].content == layer
    assert json.loads(image.manifest.content)["layers"][0]["digest"] == oci.layer(TREE).digest


def test_an_oci_layout_is_read_and_its_manifest_kept_as_it_is() -> None:
    made = oci.image([("library/app", "1")], [oci.layer(TREE)], architecture="amd64")
    entry = {**made.manifest.descriptor, "annotations": {"io.containerd.image.name": "docker.io/library/app:1"}}
    blobs = {
        f"blobs/{blob.digest.replace(':', '/')}": blob.content for blob in (made.manifest, made.config, *made.layers)
    }
    (image,) = oci.read_archive(archive({"index.json": {"manifests": [entry]}, **blobs}))
    assert image == made


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"other": b""}, "neither manifest.json nor index.json"),
        ({"manifest.json": [{"Config": "c.json", "RepoTags": None, "Layers": []}]}, "no name"),
        ({"manifest.json": [{"Config": "c.json", "RepoTags": ["a:1"], "Layers": []}]}, "c.json, which is not in it"),
        ({"manifest.json": b"{"}, "cannot be read"),
        ({"manifest.json": [{"RepoTags": ["a:1"]}]}, "cannot be read"),
    ],
)
def test_an_archive_that_is_no_image_is_refused_with_the_reason(files: dict[str, Any], message: str) -> None:
    with pytest.raises(ArchiveError, match=message):
        oci.read_archive(archive(files))


def test_a_file_that_is_no_archive_is_refused() -> None:
    with pytest.raises(ArchiveError, match="no tar file"):
        oci.read_archive(io.BytesIO(b"no"))
