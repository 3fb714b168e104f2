"""What a benchmark prints: one JSON line a measure, with the floor it is held against, measured in the same run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


def percentile(samples: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of `samples` (share 0.5: the median)."""
    ranked = sorted(samples)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure. `samples` where each repetition has a time, `value` where the whole run has one.

    `floor` is the same figure of the bare thing below; `ratio` says how far above it this one is: for times measured
    over floor, for rates measured over floor too (then larger is better).
    """

    measure: str
    unit: str
    params: Mapping[str, object]
    floor: float
    samples: Sequence[float] = ()
    value: float | None = None

    def line(self) -> str:
        figures: dict[str, object] = {"measure": self.measure, "params": dict(self.params), "unit": self.unit}
        if self.value is not None:
            figures["value"] = round(self.value, 3)
            figure = self.value
        else:
            figures["n"] = len(self.samples)
            for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
                figures[name] = round(percentile(self.samples, share), 3)
            figure = percentile(self.samples, 0.5)
        figures["floor"] = round(self.floor, 3)
        figures["ratio"] = round(figure / self.floor, 3)
        figures["load1"] = round(os.getloadavg()[0], 2)
        return json.dumps(figures)
