"""Which revision is how old, as far as this process has seen.

etcd's revisions carry no time, and a time that somebody stored would be that of another clock. What this process saw
itself is certain: a revision that stood at a moment of its own monotonic clock is at least as old as that. A process
that has seen nothing yet knows of nothing that is old enough; that only makes history longer.
"""

from __future__ import annotations

from collections import deque
from typing import Final

# Marks in the time that is kept: history is at most so much of a part longer than asked for.
_MARKS: Final = 10


class History:
    """What may be compacted, where the last `keep` seconds are to stay."""

    def __init__(self, keep: float) -> None:
        self.keep = keep
        self._epoch = b""
        # (when it was seen, revision), oldest first.
        self._marks: deque[tuple[float, int]] = deque()

    def observe(self, epoch: bytes, revision: int, now: float) -> None:
        """The store stands at `revision` now. In another epoch, or where revisions have gone back, all is forgotten."""
        if epoch != self._epoch or (self._marks and revision < self._marks[-1][1]):
            self._epoch = epoch
            self._marks.clear()
        if not self._marks or now - self._marks[-1][0] >= self.keep / _MARKS:
            self._marks.append((now, revision))
        while len(self._marks) > 1 and now - self._marks[1][0] >= self.keep:
            self._marks.popleft()

    def old_enough(self, now: float) -> int:
        """The newest revision that was seen at least `keep` seconds ago; 0: none was."""
        return max((revision for seen, revision in self._marks if now - seen >= self.keep), default=0)
