"""The launch shapes that a lane pads to: few, large enough for every launch, and cheap for one image."""

from __future__ import annotations

import pytest
from alterbute.backends.cuda.launch_buckets import DEFAULT_BUCKETS, choose_buckets, find_bucket
from alterbute.bundle import LaunchShape


def _choose(listed: tuple[tuple[int, int], ...], slots: int) -> list[tuple[int, int]]:
    buckets = choose_buckets([LaunchShape(slots=used, rows=rows) for used, rows in listed], slots)
    return [(bucket.slots, bucket.rows) for bucket in buckets]


@pytest.mark.parametrize("slots", [1, 2, 3, 4, 8, 11])
@pytest.mark.parametrize("listed", [(), ((1, 2), (2, 4), (4, 8)), ((16, 48),)])
def test_every_launch_of_a_lane_has_a_bucket_and_every_bucket_a_launch(
    listed: tuple[tuple[int, int], ...], slots: int
) -> None:
    sizes = {(rows, used) for used, rows in _choose(listed, slots)}
    launches = [(used, rows) for used in range(1, slots + 1) for rows in range(1, 3 * used + 1)]
    assert {find_bucket(sizes, used, rows) for used, rows in launches} == sizes


def test_one_image_alone_has_no_idle_row_in_the_default_table() -> None:
    for slots in (1, 4, 8):
        assert {(1, 1), (1, 2), (1, 3)} <= set(_choose((), slots))


def test_a_lane_has_no_more_buckets_than_the_table_and_its_own_largest_launch() -> None:
    assert _choose((), 1) == [(1, 3), (1, 2), (1, 1)]
    for slots in (1, 2, 4, 8, 16):
        assert len(_choose((), slots)) <= len(DEFAULT_BUCKETS) + 1


def test_the_last_image_of_a_lane_is_not_padded_to_the_rows_of_a_full_lane() -> None:
    sizes = {(rows, used) for used, rows in _choose(((1, 2), (2, 4), (4, 12)), 4)}
    assert find_bucket(sizes, 4, 2) == (4, 4)


def test_the_default_table_computes_few_idle_rows() -> None:
    sizes = {(rows, used) for used, rows in _choose((), 8)}
    cost = [find_bucket(sizes, 1 if rows <= 3 else 8, rows)[0] / rows for rows in range(1, 25)]
    assert max(cost) <= 1.42
    assert sum(cost) / len(cost) <= 1.13
