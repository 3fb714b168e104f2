"""What the pump says about itself: a line on stderr. (structlog, which the agent uses, takes too long to import.)"""

from __future__ import annotations

import sys
import time


def say(message: str, *, level: str = "info", **fields: object) -> None:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    pairs = "".join(f" {name}={value!r}" if " " in str(value) else f" {name}={value}" for name, value in fields.items())
    print(f"{stamp} [{level}] {message}{pairs}", file=sys.stderr, flush=True)
