"""Who is next, and what it will take: measured launch times, and the order in which waiting images are admitted."""

from __future__ import annotations

import math
from collections import deque
from typing import Final, Literal, TypeAlias

Admission: TypeAlias = Literal["step", "request", "single"]
"""When a waiting image may enter: at any step with a free slot; only into an empty lane, which then runs to its end
as one batch; only into an empty lane, alone. The last two exist to be measured against."""

_FORGET: Final = 0.98
_OUTLIER: Final = 20.0


class LaunchCost:
    """Seconds of a launch as a line over its rows, fitted to the launches seen, the recent ones most."""

    def __init__(self) -> None:
        self._weight = self._x = self._y = self._xx = self._xy = 0.0
        self._has_started = False
        self._recent: deque[float] = deque(maxlen=500)

    def observe(self, rows: int, seconds: float) -> None:
        """A launch of so many rows took so long."""
        if not self._has_started:  # it waited for the engine to load
            self._has_started = True
            return
        if self._weight:  # a stall of the machine says little of the next launch
            seconds = min(seconds, _OUTLIER * self.seconds(rows))
        self._weight = _FORGET * self._weight + 1
        self._x = _FORGET * self._x + rows
        self._y = _FORGET * self._y + seconds
        self._xx = _FORGET * self._xx + rows * rows
        self._xy = _FORGET * self._xy + rows * seconds
        self._recent.append(seconds)

    def seconds(self, rows: float) -> float:
        """What a launch of so many rows will take; 0 before the first one, so that nothing is refused on a guess."""
        if not self._weight:
            return 0.0
        mean_x, mean_y = self._x / self._weight, self._y / self._weight
        spread = self._xx / self._weight - mean_x**2
        # One row count alone says nothing of the slope: then all of the cost is the rows'.
        slope = mean_y / mean_x if spread < 1e-9 else (self._xy / self._weight - mean_x * mean_y) / spread
        slope = min(max(slope, 0.0), mean_y / mean_x)
        return max(mean_y + slope * (rows - mean_x), 0.0)

    def seconds_per_row(self) -> float:
        """What one row of the usual launch costs: its share of the launch."""
        if not self._weight:
            return 0.0
        rows = self._x / self._weight
        return self.seconds(rows) / rows

    @property
    def slow_s(self) -> float:
        """The 99th percentile of recent launches."""
        ranked = sorted(self._recent)
        return ranked[math.ceil(0.99 * len(ranked)) - 1] if ranked else 0.0


def priority(*, arrived_s: float, deadline_s: float, work_s: float, stretch: float) -> float:
    """When an image should enter the lane, in clock seconds; the smallest enters first.

    A request may wait `stretch` times its own work before anything that came later and is shorter stops passing
    it, and never longer than its deadline allows. Short work passes long work, and nothing starves: in first-come
    order an 8-step edit behind four 40-step edits would wait for all of them.

    Args:
        arrived_s: When it came.
        deadline_s: When it must be done.
        work_s: What it will take.
        stretch: See above; 0 is first come, first served.
    """
    return min(arrived_s + stretch * work_s, deadline_s - work_s)
