"""Columns of text: tables whose widths are remembered while they grow, and text with elastic tabs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final

# kubectl's gap between columns in `get`, and in `describe`.
_GAP: Final = 3
_DESCRIBE_GAP: Final = 2


class Table:
    """Rows in columns as `get` prints them. Rows that come later (`get -w`) keep the widths of those before."""

    def __init__(self, headers: Sequence[str] = ()) -> None:
        self._headers = list(headers)
        self._widths: list[int] = []

    def render(self, rows: Iterable[Sequence[str]]) -> str:
        """Lines, each ended; the headers come first, once."""
        lines = [[cell or "" for cell in row] for row in rows]
        if self._headers and lines:
            lines.insert(0, self._headers)
            self._headers = []
        for line in lines:
            self._widths.extend([0] * (len(line) - len(self._widths)))
            self._widths = [max(width, len(cell)) for width, cell in zip(self._widths, line, strict=False)]
        return "".join(self._line(line) for line in lines)

    def _line(self, line: Sequence[str]) -> str:
        padded = [cell.ljust(width + _GAP) for cell, width in zip(line[:-1], self._widths, strict=False)]
        return "".join([*padded, line[-1]]) + "\n"


def align(text: str) -> str:
    """`text` with its tabs made spaces, as Go's text/tabwriter does: a column lasts as long as lines have its tab."""
    rows = [line.split("\t") for line in text.split("\n")]
    for column in range(max(map(len, rows)) - 1):
        # Cells of a column are those that a tab ends: the last text of a line belongs to none.
        for has_cell, block in groupby(rows, key=lambda row: len(row) > column + 1):
            if has_cell:
                cells = list(block)
                width = max(len(row[column]) for row in cells) + _DESCRIBE_GAP
                for row in cells:
                    row[column] = row[column].ljust(width)
    return "\n".join("".join(row).rstrip() for row in rows)
