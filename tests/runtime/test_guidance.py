"""Guidance rows: InstructPix2Pix's formula, no superfluous rows, and refusal of forms that the bundle lacks."""

from __future__ import annotations

import pytest
from alterbute.denoise.guidance import Row, list_step_rows, make_guidance_rows
from alterbute.errors import InputError
from hypothesis import given
from hypothesis import strategies as st

ALL = ("none", "text", "identity")
SCALES = st.floats(0, 20).map(lambda value: round(value, 2))


@given(SCALES, SCALES)
def test_rows_are_the_published_formula_and_sum_to_one(text: float, identity: float) -> None:
    rows = make_guidance_rows(text, identity, ALL)
    full, image, unconditional = 0.7, -0.2, 1.9

    def output(row: Row) -> float:
        return unconditional if row.identity == "null" else image if row.text == "negative" else full

    expected = unconditional + text * (full - image) + identity * (image - unconditional)
    assert sum(row.weight * output(row) for row in rows) == pytest.approx(expected)
    assert sum(row.weight for row in rows) == pytest.approx(1)
    assert all(row.weight != 0 for row in rows)
    assert all((row.identity == "null") == (row.source_on == 0) for row in rows)


def test_the_papers_scales_give_its_coefficients() -> None:
    assert [row.weight for row in make_guidance_rows(7.5, 2.0, ALL)] == [-1.0, -5.5, 7.5]


@pytest.mark.parametrize(("text", "identity", "count"), [(1, 1, 1), (7.5, 1, 2), (1, 2, 3), (7.5, 2, 3), (2, 2, 2)])
def test_a_row_of_weight_zero_is_not_run(text: float, identity: float, count: int) -> None:
    assert len(make_guidance_rows(text, identity, ALL)) == count


def test_a_form_that_the_bundle_lacks_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="identity_guidance is 2") as fault:
        make_guidance_rows(7.5, 2.0, ("none", "text"))
    assert fault.value.param == "identity_guidance"
    with pytest.raises(InputError, match="guidance is 3"):
        make_guidance_rows(3.0, 1.0, ("none",))


@given(st.integers(1, 60), st.floats(0, 1), st.floats(0, 1))
def test_outside_the_interval_one_row_runs(steps: int, first: float, second: float) -> None:
    rows = make_guidance_rows(7.5, 2.0, ALL)
    start, stop = sorted((first, second))
    plan = list_step_rows(rows, steps, (start, stop))
    assert len(plan) == steps
    for k, step in enumerate(plan):
        assert step == (rows if start <= k / steps < stop else (Row(weight=1.0),))
    assert list_step_rows(rows, steps, (0.0, 1.0)) == (rows,) * steps
