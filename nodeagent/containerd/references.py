"""Image references as people write them, in the full form that containerd's image store uses as names.

The rules are those of the distribution project's reference grammar, with docker.io as the default registry:
`nginx` is `docker.io/library/nginx:latest`, and a digest takes the place of a tag.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_DEFAULT_REGISTRY: Final = "docker.io"
_PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY: Final = re.compile(rf"{_PART}(?:/{_PART})*")
_LABEL: Final = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_REGISTRY: Final = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
_TAG: Final = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST: Final = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-fA-F]{32,}")
_LONGEST_REPOSITORY: Final = 255


class InvalidReference(ValueError):
    """That is no image reference."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The parts of a reference. A tag beside a digest is dropped: the digest says it all."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def familiar_repository(self) -> str:
        """Registry and repository, as in `docker.io/library/nginx`."""
        return f"{self.registry}/{self.repository}"

    def __str__(self) -> str:
        return f"{self.familiar_repository}@{self.digest}" if self.digest else f"{self.familiar_repository}:{self.tag}"


def parse(text: str) -> Reference:
    """The reference that `text` means. Raises InvalidReference."""
    name, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise InvalidReference(f'"{text}" is no image reference: "{digest}" is no digest (sha256:<64 hex digits>)')
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        registry, name = first, rest
    else:
        registry = _DEFAULT_REGISTRY
    if registry == "index.docker.io":
        registry = _DEFAULT_REGISTRY
    if not _REGISTRY.fullmatch(registry):
        raise InvalidReference(f'"{text}" is no image reference: "{registry}" is no registry (host or host:port)')
    repository, colon, tag = name.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise InvalidReference(f'"{text}" is no image reference: "{tag}" is no tag')
    if registry == _DEFAULT_REGISTRY and "/" not in repository:
        repository = f"library/{repository}" if repository else ""
    if not _REPOSITORY.fullmatch(repository) or len(f"{registry}/{repository}") > _LONGEST_REPOSITORY:
        problem = "must be lower case" if repository != repository.lower() else "is no repository name"
        raise InvalidReference(f'"{text}" is no image reference: "{repository}" {problem}')
    if digest:
        return Reference(registry, repository, digest=digest)
    return Reference(registry, repository, tag=tag or "latest")
