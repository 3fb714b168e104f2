"""The hash that tells whether a running container is still what its pod asks for.

It is taken over fields of the API, never over the generated OCI spec: an upgrade of the agent that generates another
spec must restart nothing. Of a container only the image can change while its pod lives, so name and image suffice, as
in Kubernetes since 1.31; fields that the API gains later then change no hash either.
"""

from __future__ import annotations

import hashlib
import json

from podwire import v1


def spec_hash(container: v1.Container) -> str:
    """16 hexadecimal digits; kept as a label on the container."""
    fields = json.dumps({"image": container.image, "name": container.name}, sort_keys=True)
    return hashlib.sha256(fields.encode()).hexdigest()[:16]
