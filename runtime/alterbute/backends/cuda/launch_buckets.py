"""Launch shapes of the step graph that a lane pads its launches to, so that few shapes are captured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from alterbute.bundle import LaunchShape, ShapeRange, TensorSpec

ROWS_PER_SLOT: Final = 3
"""UNet rows of one image at most: with text and identity guidance."""

# For bundles that list none. A row is an evaluation of the whole UNet, so one image, the interactive case, gets each of its three
# numbers of rows exactly. Beyond, a launch of 1..24 rows computes 12 % idle rows on average and 41 % at most; each bucket
# costs two captures at start.
DEFAULT_BUCKETS: Final = (
    *(LaunchShape(slots=1, rows=rows) for rows in (1, 2, 3)),
    *(LaunchShape(slots=8, rows=rows) for rows in (4, 6, 8, 12, 16, 24)),
)


def choose_buckets(listed: Sequence[LaunchShape], slots: int) -> tuple[LaunchShape, ...]:
    """The buckets that a lane's launches can need, the largest first.

    A bucket of several slots is launched with all the lane's slots: an idle slot costs a few element-wise operations, but a launch
    whose one image is in the last slot would otherwise be padded to the rows of a full lane. Rows are cut to what the
    lane can need, and the largest launch gets a bucket where none holds it.

    Args:
        listed: The buckets of the variant; none takes the default table.
        slots: Number of slots of the lane.
    """
    most = ROWS_PER_SLOT * slots
    sizes = {(min(bucket.rows, most), 1 if bucket.slots == 1 else slots) for bucket in listed or DEFAULT_BUCKETS}
    sizes.add((most, slots))
    needed = {
        find_bucket(sizes, used, rows) for used in range(1, slots + 1) for rows in range(1, ROWS_PER_SLOT * used + 1)
    }
    return tuple(LaunchShape(slots=used, rows=rows) for rows, used in sorted(needed, reverse=True))


def find_bucket(sizes: set[tuple[int, int]], slots: int, rows: int) -> tuple[int, int]:
    """The cheapest bucket that holds a launch.

    Args:
        sizes: (rows, slots) of every bucket, one of which is large enough.
        slots: Slots of the launch.
        rows: Rows of the launch.
    """
    return min(size for size in sizes if size[0] >= rows and size[1] >= slots)


def make_profile(inputs: Sequence[TensorSpec], bucket: LaunchShape, sizes: Mapping[str, int]) -> dict[str, ShapeRange]:
    """Shapes of the step graph's inputs in a bucket, which is the only shape of its profile.

    Args:
        inputs: The step graph's inputs as the manifest lists them.
        bucket: Slots and rows.
        sizes: Sizes of the other free dimensions, by name.
    """
    known = {**sizes, "B": bucket.slots, "N": bucket.rows}
    shapes = {
        edge.name: tuple(known[axis] if isinstance(axis, str) else axis for axis in edge.shape) for edge in inputs
    }
    return {name: ShapeRange(min=shape, opt=shape, max=shape) for name, shape in shapes.items()}
