"""Small images for tests, made from the static busybox: an OCI layout in a tar, as `ctr image import` takes it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

APPLETS = (
    "cat", "dd", "df", "echo", "env", "false", "head", "hostname", "id", "kill", "ls", "mount", "ps", "rm", "seq",
    "sh", "sleep", "stat", "stty", "tail", "test", "touch", "true", "tty", "wc", "whoami", "yes",
)  # fmt: skip


def _entry(name: str, kind: bytes, mode: int, size: int = 0, link: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size, entry.linkname = kind, mode, size, link
    return entry


def _layer(busybox: Path, files: Mapping[str, str]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for folder in ("bin", "etc", "tmp", "root", "proc", "sys", "dev", "run", "var"):
            tar.addfile(_entry(folder, tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755))
        program = busybox.read_bytes()
        tar.addfile(_entry("bin/busybox", tarfile.REGTYPE, 0o755, len(program)), io.BytesIO(program))
        for applet in APPLETS:
            tar.addfile(_entry(f"bin/{applet}", tarfile.SYMTYPE, 0o777, link="busybox"))
        for name, text in files.items():
            tar.addfile(_entry(name, tarfile.REGTYPE, 0o644, len(text)), io.BytesIO(text.encode()))
    return raw.getvalue()


def busybox_image(
    path: Path,
    busybox: Path,
    name: str,
    *,
    entrypoint: Sequence[str] = (),
    command: Sequence[str] = ("sh",),
    user: str = "",
    env: Sequence[str] = ("PATH=/bin",),
    stop_signal: str = "",
    working_dir: str = "",
) -> None:
    """Writes to `path` an image called `name` that holds busybox and a user `web` (1000:1000, also in group 2000)."""
    passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/tmp:/bin/sh\n"
    group = "root:x:0:\nweb:x:1000:\nextra:x:2000:web\n"
    layer = _layer(busybox, {"etc/passwd": passwd, "etc/group": group})
    blobs: dict[str, bytes] = {}

    def add(data: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    packed = add(gzip.compress(layer, 1, mtime=0), "application/vnd.oci.image.layer.v1.tar+gzip")
    run: dict[str, Any] = {"Env": list(env), "Entrypoint": list(entrypoint) or None, "Cmd": list(command) or None}
    run |= {"User": user, "StopSignal": stop_signal, "WorkingDir": working_dir}
    image = {
        "architecture": "amd64",
        "os": "linux",
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    config = add(json.dumps(image).encode(), "application/vnd.oci.image.config.v1+json")
    manifest = add(
        json.dumps({"schemaVersion": 2, "config": config, "layers": [packed]}).encode(),
        "application/vnd.oci.image.manifest.v1+json",
    )
    manifest["annotations"] = {"io.containerd.image.name": name}
    index = json.dumps({"schemaVersion": 2, "manifests": [manifest]}).encode()
    with tarfile.open(path, "w") as tar:
        for file, data in {
            "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
            "index.json": index,
            **{f"blobs/sha256/{digest}": blob for digest, blob in blobs.items()},
        }.items():
            tar.addfile(_entry(file, tarfile.REGTYPE, 0o644, len(data)), io.BytesIO(data))
