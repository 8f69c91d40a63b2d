"""Promises of `alterbute edit` on the shipped bundle: files in, files out, and nothing changed that was not asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alterbute import EditResult, EngineError
from alterbute.bundle import default_bundle_path, open_bundle
from alterbute.cli import main
from alterbute.editor import Editor
from alterbute.images import load_mask, load_photo, photo_box
from alterbute.result import PartialEditError
from PIL import Image, ImageCms

from tests.support.pictures import noise, to_bytes


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_pair(folder: Path) -> list[str]:
    """A sideways photo with transparency and a profile, and its mask as the viewer shows it: 90 wide, 120 high."""
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    (folder / "photo.png").write_bytes(to_bytes(Image.fromarray(noise(90, 120, 4)), exif=exif, icc_profile=profile))
    mask = np.zeros((120, 90), np.uint8)
    mask[70:100, 20:50] = 255
    (folder / "mask.png").write_bytes(to_bytes(mask))
    return ["edit", "photo.png", "--mask", "mask.png", "--prompt", "color: red", "--steps", "2", "--seed", "7"]


def test_a_gpu_that_cannot_be_used_is_a_warning_and_the_edit_is_made(
    folder: Path,
) -> None:
    """In a process of its own: there the log has no handler, as in a terminal."""
    broken = "Driver(cuda='0.0', gpu=None, reason='the driver gives 803', is_broken=True)"
    program = f"""
import sys
from alterbute.backends import opener
from alterbute.backends.cuda.driver import Driver
from alterbute.cli import main
opener.probe_driver = lambda device: {broken}
sys.exit(main({[*write_pair(folder), "--quiet"]!r}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("warning: backend onnxruntime-cuda skipped, onnxruntime runs instead: ")
    assert "the driver gives 803" in line


def test_without_arguments_the_sample_is_edited_and_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["edit"]) == 0
    out, _ = capsys.readouterr()
    assert sorted(path.name for path in folder.iterdir()) == ["sample-edited-sheet.png", "sample-edited.png"]
    for words in ("sample-edited.png: seed ", " ms (", "steps ", ") on onnxruntime", "before and after"):
        assert words in out
    sample = load_photo(default_bundle_path() / "sample" / "photo.png")
    edited = load_photo(folder / "sample-edited.png")
    assert edited.pixels.shape == sample.pixels.shape
    assert not np.array_equal(edited.pixels, sample.pixels)


def test_finished_images_are_written_though_another_one_failed(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_requests = Editor.run_requests

    def fail_second(*arguments: Any) -> list[EditResult]:
        first, _, third = run_requests(*arguments)
        fault = EngineError("the step graph gave numbers that are not finite", "finite latents", "try another seed")
        raise PartialEditError([first, None, third], [None, fault, None])

    monkeypatch.setattr(Editor, "run_requests", fail_second)
    assert main([*write_pair(folder), "--count", "3"]) == 2
    assert sorted(path.name for path in folder.glob("photo-edited*")) == ["photo-edited-1.png", "photo-edited-3.png"]
    assert "error: 1 of 3 images failed" in capsys.readouterr().err


def test_a_sideways_photo_comes_out_upright_with_its_alpha_profile_and_background(folder: Path) -> None:
    assert main(write_pair(folder)) == 0
    photo, edited = load_photo("photo.png"), load_photo("photo-edited.png")
    assert (edited.width, edited.height) == (90, 120)
    assert photo.alpha is not None
    assert edited.alpha is not None
    assert np.array_equal(edited.alpha, photo.alpha)
    assert edited.icc == photo.icc is not None
    box = photo_box(load_mask("mask.png", photo), open_bundle(default_bundle_path()).manifest.mask.margin)
    outside = np.ones((120, 90), bool)
    outside[box.top : box.bottom, box.left : box.right] = False
    assert np.array_equal(edited.pixels[outside], photo.pixels[outside])
    assert not np.array_equal(edited.pixels, photo.pixels)


def test_the_same_seed_writes_the_same_bytes_and_count_numbers_them(folder: Path) -> None:
    words = write_pair(folder)
    assert main([*words, "-o", "a.png", "--count", "2"]) == 0
    assert main([*words, "-o", "b.png", "--count", "2"]) == 0
    first, second = (folder / "a-1.png").read_bytes(), (folder / "a-2.png").read_bytes()
    assert (folder / "b-1.png").read_bytes() == first
    assert (folder / "b-2.png").read_bytes() == second
    assert first != second


def test_a_reference_with_its_mask_changes_the_result(folder: Path) -> None:
    words = write_pair(folder)
    (folder / "reference.png").write_bytes(to_bytes(noise(150, 80, seed=3)))
    shape = np.zeros((150, 80), np.uint8)
    shape[40:100, 10:60] = 255
    (folder / "shape.png").write_bytes(to_bytes(shape))
    assert main([*words, "-o", "own.png"]) == 0
    assert main([*words, "-o", "given.png", "--reference", "reference.png", "--reference-mask", "shape.png"]) == 0
    assert (folder / "own.png").read_bytes() != (folder / "given.png").read_bytes()


@pytest.mark.parametrize(
    "option",
    [
        *(("--mask-kind", "box"), ("--dilate", "9"), ("--strength", "0.5"), ("--guidance-interval", "0.5", "1.0")),
        *(
            ("--guidance-rescale", "0.9"),
            ("--reinject",),
            ("--negative-prompt", "color: blue"),
            ("--identity-scale", "0"),
        ),
        *(("--solver", "ddim", "--eta", "1"), ("--protect", "protect.png")),
    ],
)
def test_every_option_reaches_the_edit(folder: Path, option: tuple[str, ...]) -> None:
    words = write_pair(folder)
    (folder / "mask.png").write_bytes(to_bytes(np.triu(np.full((120, 90), 255, np.uint8), 20)))
    (folder / "protect.png").write_bytes(to_bytes(np.tile(np.array([255, 0], np.uint8), (120, 45))))
    assert main([*words, "-o", "plain.png"]) == 0
    assert main([*words, "-o", "option.png", *option]) == 0
    assert (folder / "plain.png").read_bytes() != (folder / "option.png").read_bytes()


def test_quiet_prints_nothing_but_warnings(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*write_pair(folder), "--quiet", "--sheet", "sheet.png"]
    assert main(words) == 0
    assert capsys.readouterr() == ("", "")
    assert (folder / "sheet.png").exists()
    assert main([*words, "--prompt", "color: zibeline"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("warning: ")
    assert "'zibeline'" in err
    assert err.count("\n") == 1
