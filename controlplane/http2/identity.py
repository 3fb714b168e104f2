"""Whom a connection belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Identity:
    """What a client's certificate says."""

    common_name: str
    organizations: frozenset[str]


def identity_of(certificate: Mapping[str, Any]) -> Identity:
    """From the form that Python's TLS gives a verified certificate in."""
    names = [name for part in certificate.get("subject", ()) for name in part]
    found = [value for key, value in names if key == "commonName"]
    subject = ",".join(f"{key}={value}" for key, value in names)
    organizations = frozenset(value for key, value in names if key == "organizationName")
    return Identity(found[0] if found else subject, organizations)
