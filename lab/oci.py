"""Container images as values: layers, configurations and manifests of the OCI image specification, and their tar files.

Deterministic: the same files give the same bytes, so the same digests, on every machine and every day.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

from lab.errors import ArchiveError

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class File:
    """A regular file of an image."""

    content: bytes
    mode: int = 0o644


@dataclass(frozen=True)
class Link:
    """A symbolic link of an image."""

    target: str


@dataclass(frozen=True)
class Folder:
    """A folder of an image that needs a mode of its own or would be empty; other folders come by themselves."""

    mode: int = 0o755


Tree = Mapping[str, File | Link | Folder]
"""The files of a layer by path, without the leading slash."""


@dataclass(frozen=True)
class Blob:
    """Content under the name that its bytes give it."""

    media_type: str
    content: bytes

    @property
    def digest(self) -> str:
        return "sha256:" + hashlib.sha256(self.content).hexdigest()

    @property
    def descriptor(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.content)}


@dataclass(frozen=True)
class Image:
    """An image and the names it goes by (`library/nginx`, `latest`)."""

    names: tuple[tuple[str, str], ...]
    manifest: Blob
    config: Blob
    layers: tuple[Blob, ...]


def image(names: Iterable[tuple[str, str]], layers: Iterable[Blob], *, architecture: str, **process: Any) -> Image:
    """An image of these layers; `process` is how its container starts (`Cmd`, `Entrypoint`, `Env`, `StopSignal`, …)."""
    layers = tuple(layers)
    config = _json_blob(
        CONFIG,
        {
            "architecture": architecture,
            "os": "linux",
            "config": process,
            "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
        },
    )
    return Image(tuple(names), _manifest(config, layers), config, layers)


def layer(tree: Tree) -> Blob:
    """The tar of the files, owned by root and made at the beginning of 1970."""
    entries = dict(tree)
    for path in tree:
        for parent in PurePosixPath(path).parents:
            if parent.name:
                entries.setdefault(str(parent), Folder())
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in sorted(entries):
            info, content = _member(path, entries[path])
            archive.addfile(info, content)
    return Blob(LAYER, out.getvalue())


def read_archive(file: IO[bytes]) -> list[Image]:
    """The images in a tar file as `docker save`, `podman save` or an OCI layout has them.

    Raises ArchiveError where it is none, or its images have no names.
    """
    try:
        with tarfile.open(fileobj=file) as archive:
            members = {info.name.removeprefix("./"): info for info in archive.getmembers() if info.isfile()}

            def read(path: str) -> bytes:
                found = archive.extractfile(members[path]) if path in members else None
                if found is None:
                    raise ArchiveError(f"it names {path}, which is not in it")
                return found.read()

            if "manifest.json" in members:
                return _docker_images(json.loads(read("manifest.json")), read)
            if "index.json" in members:
                return _oci_images(json.loads(read("index.json")), read)
    except tarfile.TarError:
        raise ArchiveError("it is no tar file, or is cut off") from None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ArchiveError(f"its manifest cannot be read ({error!r})") from None
    raise ArchiveError("it has neither manifest.json nor index.json; make it with `docker save` or `podman save`")


def repository(reference: str) -> tuple[str, str]:
    """`nginx`, `docker.io/library/nginx:1.22`, `registry.k8s.io/pause:3` as the name and tag that a mirror knows."""
    name, _, tag = reference.rpartition(":")
    if not name or "/" in tag:
        name, tag = reference, "latest"
    first, _, rest = name.partition("/")
    registry = first if rest and ("." in first or ":" in first or first == "localhost") else "docker.io"
    path = rest if registry == first else name
    if registry == "docker.io" and "/" not in path:
        path = f"library/{path}"
    return path, tag


def _docker_images(entries: list[dict[str, Any]], read: Any) -> list[Image]:
    found = []
    for entry in entries:
        if not entry.get("RepoTags"):
            raise ArchiveError("an image in it has no name; save it by its name, not by its id")
        config = Blob(CONFIG, read(entry["Config"]))
        layers = tuple(Blob(_layer_type(content), content) for content in map(read, entry["Layers"]))
        names = tuple(repository(tag) for tag in entry["RepoTags"])
        found.append(Image(names, _manifest(config, layers), config, layers))
    return found


def _oci_images(index: dict[str, Any], read: Any) -> list[Image]:
    found = []
    for entry in index["manifests"]:
        annotations = entry.get("annotations", {})
        name = annotations.get("io.containerd.image.name") or annotations.get("org.opencontainers.image.ref.name")
        if not name:
            raise ArchiveError("an image in it has no name (annotation org.opencontainers.image.ref.name)")
        manifest = Blob(entry["mediaType"], read(_blob_path(entry["digest"])))
        parts = json.loads(manifest.content)
        if "layers" not in parts:
            raise ArchiveError(f"{name} is for several platforms; save it for one (`--platform`)")
        config, *layers = (
            Blob(part["mediaType"], read(_blob_path(part["digest"]))) for part in (parts["config"], *parts["layers"])
        )
        found.append(Image((repository(name),), manifest, config, tuple(layers)))
    return found


def _blob_path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _layer_type(content: bytes) -> str:
    return LAYER + "+gzip" if content.startswith(_GZIP_MAGIC) else LAYER


def _manifest(config: Blob, layers: Iterable[Blob]) -> Blob:
    return _json_blob(
        MANIFEST,
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor,
            "layers": [layer.descriptor for layer in layers],
        },
    )


def _json_blob(media_type: str, tree: Mapping[str, Any]) -> Blob:
    return Blob(media_type, json.dumps(tree, sort_keys=True, separators=(",", ":")).encode())


def _member(path: str, entry: File | Link | Folder) -> tuple[tarfile.TarInfo, io.BytesIO | None]:
    info = tarfile.TarInfo(path)
    match entry:
        case File(content, mode):
            info.mode, info.size = mode, len(content)
            return info, io.BytesIO(content)
        case Link(target):
            info.type, info.mode, info.linkname = tarfile.SYMTYPE, 0o777, target
        case Folder(mode):
            info.type, info.mode = tarfile.DIRTYPE, mode
    return info, None
