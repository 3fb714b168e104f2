"""How long to wait before the next attempt: doubling from `first` to `cap` seconds, with jitter.

The jitter takes up to half of each delay away, so that clients that lost one server together do not come back together.
"""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    def __init__(self, first: float, cap: float, *, uniform: Callable[[], float] = random.random) -> None:
        self._first = first
        self._cap = cap
        self._uniform = uniform
        self._failures = 0

    @property
    def failures(self) -> int:
        """How often `next` was called since the last `reset`."""
        return self._failures

    def next(self, *, at_least: float = 0.0) -> float:
        """Counts a failure; the seconds to wait after it.

        `at_least` is what a server asked for: all whom it sent away heard the same, so up to half of it is added.
        """
        # 2**60 seconds exceed every cap; the bound keeps the power from overflowing in a process that runs for years.
        delay = min(self._first * 2.0 ** min(self._failures, 60), self._cap)
        self._failures += 1
        return max(delay * (0.5 + self._uniform() / 2), at_least * (1.0 + self._uniform() / 2))

    def reset(self) -> None:
        """Something worked: the next failure waits `first` seconds again."""
        self._failures = 0
