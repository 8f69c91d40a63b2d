"""Admission: measured launch times, and the order in which waiting images enter the lane."""

from __future__ import annotations

import math
from collections import deque
from typing import Final, Literal, TypeAlias

Admission: TypeAlias = Literal["step", "request", "single"]
"""When a waiting image may enter the lane. `step`: at any step with a free slot; `request`: only into an empty lane, which then
runs to its end as one batch; `single`: only into an empty lane, alone. The last two exist for comparison."""

# Weight of the past in the fit, per launch: about the last 50 launches count.
_DECAY: Final = 0.98
# A launch is recorded with at most this multiple of its predicted time.
_MAX_SLOWDOWN: Final = 20.0


class LaunchCost:
    """Seconds of a launch as a linear function of its rows, fitted to past launches, recent ones weighted most."""

    def __init__(self) -> None:
        self._weight = self._x = self._y = self._xx = self._xy = 0.0
        self._has_started = False
        self._recent: deque[float] = deque(maxlen=500)

    def observe(self, rows: int, seconds: float) -> None:
        """Record the duration of a launch."""
        if not self._has_started:  # the first launch waits for the engine to load
            self._has_started = True
            return
        if self._weight:  # a stall of the machine does not predict the next launch
            seconds = min(seconds, _MAX_SLOWDOWN * self.seconds(rows))
        self._weight = _DECAY * self._weight + 1
        self._x = _DECAY * self._x + rows
        self._y = _DECAY * self._y + seconds
        self._xx = _DECAY * self._xx + rows * rows
        self._xy = _DECAY * self._xy + rows * seconds
        self._recent.append(seconds)

    def seconds(self, rows: float) -> float:
        """Predicted seconds of a launch of this many rows; 0 before any is measured, so that nothing is refused on a guess."""
        if not self._weight:
            return 0.0
        mean_x, mean_y = self._x / self._weight, self._y / self._weight
        spread = self._xx / self._weight - mean_x**2
        # Launches of one row count do not determine the slope: then the whole cost is attributed to the rows.
        slope = mean_y / mean_x if spread < 1e-9 else (self._xy / self._weight - mean_x * mean_y) / spread
        slope = min(max(slope, 0.0), mean_y / mean_x)
        return max(mean_y + slope * (rows - mean_x), 0.0)

    def seconds_per_row(self) -> float:
        """Seconds of one row of an average launch."""
        if not self._weight:
            return 0.0
        rows = self._x / self._weight
        return self.seconds(rows) / rows

    @property
    def slow_s(self) -> float:
        """The 99th percentile of recent launches, in seconds."""
        ranked = sorted(self._recent)
        return ranked[math.ceil(0.99 * len(ranked)) - 1] if ranked else 0.0


def priority(*, arrived_s: float, deadline_s: float, work_s: float, stretch: float) -> float:
    """Priority of a waiting image, as a time in clock seconds: the smallest enters the lane first.

    Shorter requests that came later overtake a request until it has waited `stretch` times its own work, or its deadline is
    near. So a short request does not wait for long ones (in first-come order an 8-step edit behind four 40-step edits waits for
    all of them), and a long one does not wait for ever.

    Args:
        arrived_s: Time of its arrival.
        deadline_s: Time at which it must be done.
        work_s: Predicted seconds of its work.
        stretch: Multiple of its own work, see above; 0 is first come, first served.
    """
    return min(arrived_s + stretch * work_s, deadline_s - work_s)
