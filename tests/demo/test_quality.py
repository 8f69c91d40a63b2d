"""The quality measure counts against the mask that was given, so that an edit outside it cannot go unseen."""

from __future__ import annotations

import numpy as np
from alterbute.images.photo import Bytes

from demo.quality import CONTENDERS, QualityCase, compare_pastes, measure


def test_a_changed_pixel_outside_the_mask_is_counted_and_a_perfect_edit_is_right() -> None:
    def edit(case: QualityCase, photo: Bytes, number: int) -> dict[str, Bytes]:
        truth = case.draw(case.after)
        spoilt = np.where(case.mask[:, :, None] > 0, truth, photo)
        if number == 2:
            y, x = np.argwhere(case.mask == 0)[0]
            spoilt[y, x] ^= 1
        return {name: spoilt if name == "auto" else photo for name in CONTENDERS}

    figures = measure(edit, 1, seed=1)
    assert figures["changed_pixels_outside_the_mask"] == 1
    right = {name: row["value"] for name, row in figures["percent"].items() if name.startswith("auto/")}
    assert set(right.values()) == {100.0}
    gains = figures["auto_minus_model_db"]["edit color"]
    assert gains["worse"] == 0 and gains["n"] == 2 and gains["lowest"] > 20


def test_losses_are_counted_by_size() -> None:
    figures = compare_pastes([20.0, 19.0, 18.0, 25.0], [20.0, 19.2, 19.0, 20.0])
    assert figures == {"mean": 0.95, "lowest": -1.0, "worse": 2, "worse_by_half_a_db": 1, "n": 4}
