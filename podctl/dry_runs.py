"""`--dry-run`, as kubectl has it: what lines end with, and who checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

NONE: Final = "none"
# Nothing is sent.
CLIENT: Final = "client"
# The server checks everything and changes nothing.
SERVER: Final = "server"

SUFFIX: Final[Mapping[str, str]] = {NONE: "", CLIENT: " (dry run)", SERVER: " (server dry run)"}
