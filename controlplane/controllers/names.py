"""Names of the objects that controllers make: the maker's name and a suffix, random or a hash. Pure.

The alphabet has neither vowels nor characters that look alike, so that no suffix spells a word or is misread; it is
Kubernetes' (k8s.io/apimachinery/pkg/util/rand).
"""

from __future__ import annotations

import hashlib
import random
from typing import Final

_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX: Final = 5
# A pod's name becomes its host name, which ends at 63 characters.
_LONGEST: Final = 63


def random_name(stem: str, source: random.Random) -> str:
    """`web-7fqk4`."""
    return join(stem, "".join(source.choice(_ALPHABET) for _ in range(_SUFFIX)))


def hash_of(*parts: bytes, length: int) -> str:
    """The same text for the same parts, today and after an upgrade."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    number = int.from_bytes(digest.digest(), "big")
    text = ""
    for _ in range(length):
        number, index = divmod(number, len(_ALPHABET))
        text += _ALPHABET[index]
    return text


def join(stem: str, suffix: str) -> str:
    """`stem-suffix`, the stem cut where the whole would be too long for a host name."""
    return f"{stem[: _LONGEST - len(suffix) - 1]}-{suffix}"
