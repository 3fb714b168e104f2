"""Images on the node: what containerd has under a name, what its configuration says to run, and pulling.

containerd pulls by itself, through its CRI image service, so that registries, mirrors and credentials work as its
users configured them. What an image says is read from the content store, once for each digest.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

from nodeagent.containerd.api import content_pb2, cri_pb2, images_pb2
from nodeagent.containerd.client import Client, NotFound
from nodeagent.containerd.references import Reference
from nodeagent.model import Image

_INDEXES: Final = frozenset(
    {"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"}
)
_ARCHITECTURES: Final[Mapping[str, str]] = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "i686": "386",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
    "loongarch64": "loong64",
}
_LARGEST_DOCUMENT: Final = 8 << 20
"""Bytes of a manifest or configuration; registries refuse manifests over 4 MiB."""


class BadImage(Exception):
    """The image cannot run here; the message says why."""


def architecture() -> str:
    """This machine's architecture in Go's words, as images name it."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def choose_manifest(index: Mapping[str, Any], wanted: str) -> str:
    """The digest of the manifest for Linux on architecture `wanted`. Raises BadImage."""
    offered = []
    for manifest in index.get("manifests") or ():
        target = manifest.get("platform") or {}
        system, machine = target.get("os", "linux"), target.get("architecture", wanted)
        if (system, machine) == ("linux", wanted):
            return str(manifest["digest"])
        offered.append(f"{system}/{machine}")
    raise BadImage(f"the image is not made for linux/{wanted}; it is for {', '.join(offered) or 'nothing'}")


def chain_id(diff_ids: Sequence[str]) -> str:
    """The name of the snapshot that holds all these layers (OCI image specification, "Layer ChainID")."""
    chain = diff_ids[0]
    for diff_id in diff_ids[1:]:
        chain = f"sha256:{hashlib.sha256(f'{chain} {diff_id}'.encode()).hexdigest()}"
    return chain


def from_config(name: str, digest: str, config: Mapping[str, Any]) -> Image:
    """The image that an OCI or Docker configuration describes. Raises BadImage."""
    diff_ids = (config.get("rootfs") or {}).get("diff_ids") or ()
    if not diff_ids:
        raise BadImage("the image has no layers")
    run = config.get("config") or {}
    return Image(
        name=name,
        digest=digest,
        chain_id=chain_id(diff_ids),
        entrypoint=tuple(run.get("Entrypoint") or ()),
        command=tuple(run.get("Cmd") or ()),
        env=tuple(run.get("Env") or ()),
        working_dir=run.get("WorkingDir") or "",
        user=run.get("User") or "",
        stop_signal=run.get("StopSignal") or "",
    )


class Images:
    """The images of one containerd."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._by_digest: dict[str, Image] = {}

    async def find(self, reference: Reference) -> Image | None:
        """The image that `reference` names on this node, or None. Raises BadImage, ContainerdError."""
        name = str(reference)
        try:
            answer = await self._client.call(self._client.images.Get, images_pb2.GetImageRequest(name=name))
        except NotFound:
            return None
        target = answer.image.target
        known = self._by_digest.get(target.digest)
        if known is None:
            try:
                known = await self._read(name, target.digest, target.media_type)
            except NotFound:
                # The name is there, its content is not: a pull that did not end.
                return None
            self._by_digest[target.digest] = known
        return replace(known, name=name)

    async def pull(self, reference: Reference) -> None:
        """Has containerd pull the image, for as long as that takes. Raises ContainerdError."""
        request = cri_pb2.PullImageRequest(image=cri_pb2.ImageSpec(image=str(reference)))
        await self._client.call(self._client.cri_images.PullImage, request, timeout=None)

    async def _read(self, name: str, digest: str, media_type: str) -> Image:
        document = await self._document(digest)
        if media_type in _INDEXES:
            document = await self._document(choose_manifest(document, architecture()))
        config = await self._document(document["config"]["digest"])
        return from_config(name, digest, config)

    async def _document(self, digest: str) -> dict[str, Any]:
        request = content_pb2.ReadContentRequest(digest=digest)
        data = b""
        async with aclosing(self._client.stream(self._client.content.Read, request)) as chunks:
            async for chunk in chunks:
                data += chunk.data
                if len(data) > _LARGEST_DOCUMENT:
                    raise BadImage(f"{digest} is larger than a manifest or configuration may be")
        try:
            tree = json.loads(data)
        except ValueError as error:
            raise BadImage(f"{digest} is not JSON: {error}") from None
        if not isinstance(tree, dict):
            raise BadImage(f"{digest} is not a JSON object")
        return tree
