"""Random photos and masks, in many forms and kinds, give Python's bytes and Python's refusals."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from alterbute import Editor
from alterbute.errors import InputError
from alterbute.images.photo import Bytes
from PIL import Image

from tests.cpp.driver import Driver, Refused
from tests.cpp.test_edits import assert_same_edit
from tests.masks.test_strict_edits import Pair


def as_pixels(mask: Any) -> Bytes:
    """A mask of any form as the pixels that a C++ caller would decode."""
    if isinstance(mask, bytes):
        mask = np.asarray(Image.open(io.BytesIO(mask)))
    if mask.dtype == np.bool_ or mask.dtype.kind == "f":
        levels: Bytes = np.rint(mask * np.float32(255)).astype(np.uint8)
        return levels
    pixels: Bytes = mask
    return pixels


def compare_pairs(python_editor: Editor, cpp_editor: Driver, seeds: range) -> int:
    """Compare the edits of random pairs; returns how many were refused."""
    refused = 0
    for seed in seeds:
        pair = Pair(seed)
        photo = np.asarray(pair.photo)
        options = {"prompt": "color: red", "seed": seed, "steps": 1, **pair.options}
        if seed % 3 == 0:
            options["rim"] = seed % 7
        try:
            assert_same_edit(python_editor, cpp_editor, photo, as_pixels(pair.mask), options)
        except InputError as ours:
            refused += 1
            with pytest.raises(Refused) as theirs:
                cpp_editor.edit(photo, as_pixels(pair.mask), **options)
            assert str(theirs.value) == str(ours)
    return refused


def test_random_masks_give_pythons_bytes(python_editor: Editor, cpp_editor: Driver) -> None:
    compare_pairs(python_editor, cpp_editor, range(20_000, 20_060))


@pytest.mark.slow
def test_a_thousand_random_masks_give_pythons_bytes(python_editor: Editor, cpp_editor: Driver) -> None:
    compare_pairs(python_editor, cpp_editor, range(30_000, 31_000))
