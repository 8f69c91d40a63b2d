"""`alterbute mask`, the forms of a mask on the command line, and outputs that replace no original."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from alterbute.cli import main
from PIL import Image

from tests.support.pictures import make_mask, noise, to_bytes

EDIT = ["--prompt", "color: red", "--steps", "1", "--seed", "1"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.png").write_bytes(to_bytes(noise(70, 90)))
    (tmp_path / "mask.png").write_bytes(to_bytes(make_mask(70, 90)))
    polygon = [30, 20, 54, 20, 54, 44, 30, 44]
    coco = {"annotations": [{"id": 3, "segmentation": [polygon]}, {"id": 4, "segmentation": [[1, 1, 9, 1, 9, 9]]}]}
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    return tmp_path


@pytest.mark.parametrize("name", ["photo.png", "mask.png", "./mask.png", "link.png"])
def test_an_output_that_is_an_input_is_refused(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "link.png").symlink_to(folder / "photo.png")
    before = (folder / "photo.png").read_bytes(), (folder / "mask.png").read_bytes()
    words = ["edit", "photo.png", "--mask", "mask.png", *EDIT, "-o", name]
    assert main(words) == 2
    assert "one of the inputs" in capsys.readouterr().err
    assert ((folder / "photo.png").read_bytes(), (folder / "mask.png").read_bytes()) == before
    assert main([*words, "--overwrite"]) == 0


def test_one_path_for_two_outputs_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["edit", "photo.png", "--mask", "mask.png", *EDIT, "-o", "a.png", "--sheet", "a.png"]) == 2
    assert "written twice" in capsys.readouterr().err


def test_the_default_name_replaces_no_earlier_result(folder: Path) -> None:
    words = ["edit", "photo.png", "--mask", "mask.png", *EDIT]
    assert main(words) == main(words) == main([*words, "--count", "2"]) == main([*words, "--count", "2"]) == 0
    assert len(list(folder.glob("photo-edited*"))) == 6


@pytest.mark.parametrize(
    "words",
    [
        ["--mask", "mask.png"],
        ["--mask", "coco.json#3"],
        ["--box", "30,20,54,44"],
        ["--polygon", "30,20 54,20 54,44 30,44"],
        ["--polygon", "30,20 54,20 54,32 30,32", "--polygon", "30,32 54,32 54,44 30,44"],
    ],
)
def test_every_form_of_a_mask_marks_the_same_pixels(
    folder: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mask", "photo.png", *words, "-o", "out.png", "--sheet", "sheet.png"]) == 0
    out = capsys.readouterr().out
    assert "mask: 9 % of the photo, 1 piece, from" in out and "window: 34x34" in out
    assert np.array_equal(np.asarray(Image.open(folder / "out.png")), make_mask(70, 90))
    assert (folder / "sheet.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mask", "coco.json"], "choose with a key"),
        (["--mask", "coco.json#9"], "3"),
        (["--mask", "mask.png", "--box", "1,1,9,9"], "--mask and --box"),
        (["--box", "1,1,9"], "box"),
        (["--polygon", "1,1 9,9"], "polygon"),
        ([], "there is no mask"),
    ],
)
def test_a_form_that_cannot_be_used_is_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mask", "photo.png", *words]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_an_edit_prints_what_was_understood_and_warns(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "inverted.png").write_bytes(to_bytes(255 - make_mask(70, 90)))
    assert main(["edit", "photo.png", "--mask", "inverted.png", *EDIT]) == 0
    out, err = capsys.readouterr()
    assert "mask: 91 % of the photo, 1 piece, from white" in out
    assert "warning: the mask covers 91% of the photo and all four corners: it looks inverted" in err
    assert main(["edit", "photo.png", "--mask", "mask.png", *EDIT, "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_an_edit_by_box_keeps_what_is_outside(folder: Path) -> None:
    assert main(["edit", "photo.png", "--box", "30,20,54,44", *EDIT, "-o", "out.png"]) == 0
    assert main(["compare", "photo.png", "out.png", "--mask", "mask.png"]) == 0
