"""The CRI log format: `2026-11-22T18:57:14.123456789Z stdout F line`; P instead of F marks a piece of a longer line.

https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md
"""

from __future__ import annotations

import time
from typing import Final

# Longer lines are written in pieces of this size, as containerd does by default (max_container_log_line_size).
MAX_LINE: Final = 16 * 1024


class Clock:
    """The current time as the format wants it: RFC 3339 in UTC with nine digits of nanoseconds."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def stamp(self, time_ns: int) -> bytes:
        second, nanoseconds = divmod(time_ns, 1_000_000_000)
        if second != self._second:
            # strftime costs more than all the rest of a small batch.
            self._second, self._text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return b"%s.%09dZ" % (self._text.encode(), nanoseconds)


def encode(data: bytes, stream: bytes, stamp: bytes, *, flush: bool = False) -> tuple[bytes, int]:
    """`data` as log lines, and how many of its bytes they hold.

    An incomplete last line is left for later unless it is longer than MAX_LINE or `flush` is set; then it is written as
    a piece. All lines of a batch have the time at which it was read. No step costs a line: the work is done by
    `rfind` and `replace` over windows of MAX_LINE.
    """
    full = b"%s %s F " % (stamp, stream)
    piece = b"%s %s P " % (stamp, stream)
    next_line = b"\n" + full
    parts: list[bytes] = []
    position, end = 0, len(data)
    while position < end:
        last = data.rfind(b"\n", position, position + MAX_LINE + 1)
        if last >= 0:
            # Every line up to here is short enough, since all of them fit into one window.
            parts += (full, data[position:last].replace(b"\n", next_line), b"\n")
            position = last + 1
        elif flush or end - position > MAX_LINE:
            parts += (piece, data[position : position + MAX_LINE], b"\n")
            position = min(position + MAX_LINE, end)
        else:
            break
    return b"".join(parts), position
