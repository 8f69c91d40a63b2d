"""The connected pieces of a mask, as runs of pixels: for dropping dust and finding distant objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from alterbute.images.boxes import Box, object_box
from alterbute.images.photo import Bytes

Numbers: TypeAlias = NDArray[np.int64]

MAX_RUNS: Final = 1_000_000
"""Most runs of a mask whose pieces are found; dithered pictures and noise have more."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pieces:
    """The 8-connected pieces of a mask, the largest first; of equal ones the first by row, then by column.

    Args:
        shape: (H, W) of the mask.
        rows, starts, stops: [R] int64, the runs `starts <= x < stops` of each row, in reading order.
        labels: [R] int64, the piece of each run, 0..P-1.
        areas: [P] int64, pixels of each piece.
    """

    shape: tuple[int, int]
    rows: Numbers
    starts: Numbers
    stops: Numbers
    labels: Numbers
    areas: Numbers

    def boxes(self) -> list[Box]:
        """The tightest box around each piece."""
        count = len(self.areas)
        top, left = np.full(count, self.shape[0]), np.full(count, self.shape[1])
        bottom, right = np.zeros(count, np.int64), np.zeros(count, np.int64)
        np.minimum.at(top, self.labels, self.rows)
        np.minimum.at(left, self.labels, self.starts)
        np.maximum.at(bottom, self.labels, self.rows + 1)
        np.maximum.at(right, self.labels, self.stops)
        edges = np.stack([top, left, bottom, right], 1).tolist()
        return [Box(top=t, left=left, bottom=b, right=r) for t, left, b, r in edges]

    def paint(self, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """HW bool mask of the pieces that are chosen by `chosen` [P] bool."""
        is_drawn = chosen[self.labels]
        steps = np.zeros((self.shape[0], self.shape[1] + 1), np.int8)
        steps[self.rows[is_drawn], self.starts[is_drawn]] += 1
        steps[self.rows[is_drawn], self.stops[is_drawn]] -= 1
        np.cumsum(steps, axis=1, dtype=np.int8, out=steps)
        return steps[:, :-1].view(np.bool_)

    def keep(self, chosen: NDArray[np.bool_]) -> Pieces:
        """The pieces that are chosen by `chosen` [P] bool, numbered anew in their order."""
        is_kept = chosen[self.labels]
        numbers = np.cumsum(chosen) - 1
        return Pieces(
            shape=self.shape,
            rows=self.rows[is_kept],
            starts=self.starts[is_kept],
            stops=self.stops[is_kept],
            labels=numbers[self.labels[is_kept]],
            areas=self.areas[chosen],
        )


def find_pieces(mask: Bytes | NDArray[np.bool_]) -> Pieces | None:
    """Find the connected pieces of a mask.

    Args:
        mask: HW uint8 or bool; what is not 0 is marked.

    Returns:
        The pieces; None if the mask has more than `MAX_RUNS` runs.
    """
    height, width = mask.shape
    # Only the box around all pieces is read: the mask of a large photo is mostly empty.
    around = object_box(mask) if mask.any() else Box(top=0, left=0, bottom=0, right=0)
    # One unmarked column after every row ends its last run.
    padded = np.zeros((around.height, around.width + 1), np.bool_)
    np.not_equal(mask[around.top : around.bottom, around.left : around.right], 0, out=padded[:, :-1])
    flat = padded.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat.size and flat[0]:
        edges = np.concatenate([[0], edges])
    if len(edges) // 2 > MAX_RUNS:
        return None
    firsts, ends = edges[0::2], edges[1::2]
    rows = firsts // (around.width + 1)
    in_row = around.left - rows * (around.width + 1)
    starts, stops, rows = firsts + in_row, ends + in_row, rows + around.top
    roots = _join_runs(rows, starts, stops, width)
    first_runs, labels = np.unique(roots, return_inverse=True)
    areas = np.bincount(labels, weights=stops - starts, minlength=len(first_runs)).astype(np.int64)
    # A stable sort keeps pieces of one area in reading order, which their smallest run's index gives.
    order = np.argsort(-areas, kind="stable")
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    return Pieces(
        shape=(height, width), rows=rows, starts=starts, stops=stops, labels=ranks[labels], areas=areas[order]
    )


def find_dust(areas: Numbers) -> NDArray[np.bool_]:
    """Which pieces are dust: under a thousandth of the largest, or under 64 pixels and a fiftieth of the largest.

    Args:
        areas: [P] int64, pixels of each piece.

    Returns:
        [P] bool.
    """
    largest = areas.max(initial=0)
    is_dust: NDArray[np.bool_] = (areas * 1000 < largest) | ((areas < 64) & (areas * 50 < largest))
    return is_dust


def _join_runs(rows: Numbers, starts: Numbers, stops: Numbers, width: int) -> Numbers:
    """The smallest index of the runs that each run is connected with; runs of neighbouring rows connect, diagonally too."""
    stride = width + 2
    below = (rows + 1) * stride
    first = np.searchsorted(rows * stride + stops, below + starts, "left")
    last = np.searchsorted(rows * stride + starts, below + stops, "right")
    counts = np.maximum(last - first, 0)
    upper = np.repeat(np.arange(len(rows)), counts)
    offsets = np.arange(len(upper)) - np.repeat(np.cumsum(counts) - counts, counts)
    lower = np.repeat(first, counts) + offsets
    roots = np.arange(len(rows))
    while True:
        one, other = roots[upper], roots[lower]
        if np.array_equal(one, other):
            return roots
        np.minimum.at(roots, np.maximum(one, other), np.minimum(one, other))
        while not np.array_equal(roots, roots[roots]):
            roots = roots[roots]
