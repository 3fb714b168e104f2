"""The logger of the library: constant text and fields, for programs that have configured structlog.

Who has not hears nothing, because a library does not print by itself; and structlog, whose import takes a quarter of
the client's time to start, is not loaded for a program that has no use for it.
"""

from __future__ import annotations

import sys


class Logger:
    """`log.info("constant text", field=value)` goes to the structlog logger of that name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def info(self, event: str, **fields: object) -> None:
        structlog = sys.modules.get("structlog")
        if structlog is not None and structlog.is_configured():
            structlog.get_logger(self._name).info(event, **fields)
