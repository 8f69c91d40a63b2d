"""Bundles of every family, with random weights: C++ gives Python's bytes for their graphs, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from alterbute import Editor

from tests.cpp.driver import Driver
from tests.cpp.test_edits import assert_same_edit, draw_mask, draw_photo

OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"solver": "euler_a", "steps": 4, "seed": 2},
    {"guidance": 3.0, "guidance_rescale": 0.5, "negative_prompt": "grey"},
    {"strength": 0.6, "solver": "ddim", "steps": 5, "reinject": True},
    {"reference": draw_photo(70, 90, seed=5), "guidance": 2.0, "guidance_interval": [0.0, 0.5]},
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sd15", "sd15-instruct", "sd15-grid", "sdxl-adapter"])
def test_image_bytes_of_every_family_are_pythons(built: Path, kind: str, tmp_path: Path) -> None:
    from alterbute_export.export_bundle import export_bundle

    from tests.support.checkpoints import make_checkpoint

    export_bundle(make_checkpoint(tmp_path / "checkpoint", kind), tmp_path / "bundle")
    photo, mask = draw_photo(96, 80, seed=3), draw_mask(96, 80, 0)
    with (
        Editor.open(tmp_path / "bundle", backend="onnxruntime") as editor,
        Driver(built / "tests" / "driver") as driver,
    ):
        driver.ask("open", path=str(tmp_path / "bundle"), load=True)
        forms = editor.manifest.guidance.forms
        base = {"prompt": "make it red", "seed": 1, "steps": 3}
        if editor.manifest.defaults.strength < 1:
            base["solver"] = "ddim"  # of a solver that remembers, the table has whole trajectories only
        for options in OPTIONS:
            if "guidance" not in options or "text" in forms:
                assert_same_edit(editor, driver, photo, mask, {**base, **options})
        if "identity" in forms:
            assert_same_edit(editor, driver, photo, mask, {**base, "guidance": 4.0, "identity_guidance": 2.0})


def test_image_bytes_of_an_int8_bundle_are_pythons(built: Path, tmp_path: Path) -> None:
    from alterbute.bundle import default_bundle_path, open_bundle
    from alterbute_export.int8 import default_edits, quantize_bundle

    demo = default_bundle_path()
    quantize_bundle(demo, tmp_path / "bundle", default_edits(open_bundle(demo))[:1], steps=1)
    photo, mask = draw_photo(96, 80, seed=3), draw_mask(96, 80, 0)
    with (
        Editor.open(tmp_path / "bundle", backend="onnxruntime") as editor,
        Driver(built / "tests" / "driver") as driver,
    ):
        driver.ask("open", path=str(tmp_path / "bundle"), load=True)
        assert_same_edit(editor, driver, photo, mask, {"prompt": "color: red", "seed": 1, "steps": 3})
