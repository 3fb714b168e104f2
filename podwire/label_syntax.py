"""What keys and values of labels look like: for those who validate objects, and for those who read selectors."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

LABEL: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN: Final = rf"{LABEL}(\.{LABEL})*"
NAME: Final = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
LONGEST_SUBDOMAIN: Final = 253
LONGEST_NAME: Final = 63
_LONGEST_KEY: Final = LONGEST_SUBDOMAIN + len("/") + LONGEST_NAME
# Compiled here: `re` would look each one up at every call, which takes as long as the match.
_is_name: Final = re.compile(NAME).fullmatch
_is_subdomain: Final = re.compile(SUBDOMAIN).fullmatch


def is_name(text: str) -> bool:
    """The part of a key after its slash, and a value that is not empty."""
    return len(text) <= LONGEST_NAME and _is_name(text) is not None


def is_key_prefix(text: str) -> bool:
    """The part of a key before its slash."""
    return len(text) <= LONGEST_SUBDOMAIN and _is_subdomain(text) is not None


def is_key(text: str) -> bool:
    """`app`, `app.kubernetes.io/name`."""
    # Nothing longer is remembered: it comes from clients, who may send megabytes.
    return len(text) <= _LONGEST_KEY and _is_key(text)


@lru_cache(maxsize=1024)
def _is_key(text: str) -> bool:
    """Asked for a few keys again and again."""
    prefix, slash, name = text.rpartition("/")
    return is_name(name) and (not slash or is_key_prefix(prefix))


def is_value(text: str) -> bool:
    return not text or is_name(text)
