"""Every bad input ends in one line that says what was seen, what was expected and what to do; no file, no traceback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from alterbute.bundle import SCHEMA_VERSION, default_bundle_path
from alterbute.cli import main
from PIL import Image

from tests.support.bundles import write_stub_bundle
from tests.support.pictures import noise, png_chunk, png_claiming, to_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A folder with a good photo, a good mask and a bundle, to be spoilt one at a time."""

    photo: Path
    mask: Path
    bundle: Path
    output: Path

    def words(self, *extra: str) -> list[str]:
        good = [str(self.photo), "--mask", str(self.mask), "--prompt", "color: red", "--bundle", str(self.bundle)]
        return ["edit", *good, "-o", str(self.output), *extra]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bundle = write_stub_bundle(tmp_path / "bundle").path
    bench = Bench(photo=tmp_path / "photo.png", mask=tmp_path / "mask.png", bundle=bundle, output=tmp_path / "out.png")
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 20:40] = 255
    bench.photo.write_bytes(to_bytes(noise(48, 64)))
    bench.mask.write_bytes(to_bytes(mask))
    return bench


def assert_refused(bench: Bench, words: list[str], seen: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(bench.photo.parent.rglob("*"))
    assert main(words) == 2
    out, err = capsys.readouterr()
    # The line about the mask comes before the bundle is opened.
    assert re.fullmatch(r"(mask: .*\n)?", out)
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    assert "; expected " in err
    assert err.count("; ") >= 2, err
    assert seen in err
    assert "Traceback" not in err
    assert sorted(bench.photo.parent.rglob("*")) == before


ANIMATION = [Image.fromarray(noise(48, 64, seed=seed)) for seed in range(3)]
RAMP = to_bytes(np.arange(48 * 64 * 3, dtype=np.uint32).astype(np.uint8).reshape(48, 64, 3))
BAD_PICTURES = {
    "empty": (b"", "is empty"),
    "text": (b"hello, I am a photo", "which is no supported picture format"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is an SVG drawing"),
    "png cut in its header": (to_bytes(noise(48, 64))[:20], "is a PNG file whose header is cut or damaged"),
    "png cut": (to_bytes(noise(48, 64))[:3000], "is truncated"),
    "jpeg cut": (to_bytes(noise(48, 64), "JPEG")[:1500], "is truncated"),
    "webp cut": (to_bytes(noise(48, 64), "WEBP", lossless=True)[:3000], "is "),
    "png with a flipped bit": (RAMP[:80] + bytes([RAMP[80] ^ 16]) + RAMP[81:], "checksum"),
    "camera RAW": (b"II*\0\x10\0\0\0CR\2\0" + bytes(40), "is a camera RAW file (CR2)"),
    "cmyk": (to_bytes(Image.fromarray(noise(48, 64)).convert("CMYK"), "JPEG"), "CMYK"),
    "animated png": (to_bytes(ANIMATION[0], save_all=True, append_images=ANIMATION[1:]), "animation of 3 frames"),
    "animated webp": (to_bytes(ANIMATION[0], "WEBP", save_all=True, append_images=ANIMATION[1:]), "animation of 3"),
    "144 megapixels": (png_claiming(12_000, 12_000), "12000x12000"),
    "over the pixel limit within the side limit": (png_claiming(16_000, 6_251), "16000x6251"),
    "400 megapixels": (png_claiming(20_000, 20_000), "20000x20000"),
    "a long line": (png_claiming(1, 1_000_000), "1x1000000"),
    "tiny": (to_bytes(noise(31, 64)), "64x31"),
    "negative size": (png_claiming(2**32 - 1, 64), "4294967295x64"),
    "text bomb": (png_claiming(64, 48, extra=png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000)))), "is "),
    "profile bomb": (
        png_claiming(64, 48, extra=png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(50_000_000)))),
        "is ",
    ),
}


@pytest.mark.parametrize("which", ["photo", "mask"])
@pytest.mark.parametrize("name", BAD_PICTURES)
def test_a_bad_picture_is_refused(bench: Bench, name: str, which: str, capsys: pytest.CaptureFixture[str]) -> None:
    data, seen = BAD_PICTURES[name]
    Path(getattr(bench, which)).write_bytes(data)
    assert_refused(bench, bench.words(), seen, capsys)


@pytest.mark.parametrize(
    ("mask", "format", "seen"),
    [
        (noise(48, 64), "GIF", "256 values"),
        (noise(48, 64), "BMP", "over 256 colours"),
        (np.zeros((48, 64), np.uint16), "PNG", "mask is empty"),
    ],
)
def test_a_mask_of_another_format_is_read_and_refused_for_its_content(
    bench: Bench,
    mask: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
    format: str,
    seen: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bench.mask.write_bytes(to_bytes(mask, format))
    assert_refused(bench, bench.words(), seen, capsys)


def test_a_photo_that_is_no_file_is_refused(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.photo.unlink()
    assert_refused(bench, bench.words(), "No such file", capsys)
    bench.photo.mkdir()
    assert_refused(bench, bench.words(), "is not a file", capsys)
    bench.photo.rmdir()
    os.mkfifo(bench.photo)
    assert_refused(bench, bench.words(), "is not a file", capsys)


@pytest.mark.parametrize(
    ("mask", "seen"),
    [
        (np.zeros((48, 64), np.uint8), "mask is empty"),
        (np.full((48, 64), 255, np.uint8), "mask is full"),
        (np.full((64, 48), 255, np.uint8), "48x64"),
        (np.full((48, 65), 255, np.uint8), "65x48"),
    ],
)
def test_a_mask_that_fits_no_edit_is_refused(
    bench: Bench, mask: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], seen: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.mask.write_bytes(to_bytes(mask))
    assert_refused(bench, bench.words(), seen, capsys)


def test_a_photo_without_a_mask_is_refused(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["edit", str(bench.photo), "--prompt", "color: red", "--bundle", str(bench.bundle), "-o", str(bench.output)]
    assert_refused(bench, words, "no mask", capsys)


def test_a_mask_without_a_photo_is_refused(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["edit", "--mask", str(bench.mask), "--bundle", str(bench.bundle), "-o", str(bench.output)]
    assert_refused(bench, words, "no photo", capsys)


def test_a_photo_without_a_prompt_is_refused(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "edit",
        str(bench.photo),
        "--mask",
        str(bench.mask),
        "--bundle",
        str(bench.bundle),
        "-o",
        str(bench.output),
    ]
    assert_refused(bench, words, "no prompt", capsys)


def test_a_reference_mask_without_a_reference_is_refused(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert_refused(bench, bench.words("--reference-mask", str(bench.mask)), "no reference", capsys)


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (["--steps", "0"], "steps is 0"),
        (["--steps", "-3"], "steps is -3"),
        (["--steps", "many"], "--steps"),
        (["--seed", "-1"], "seed is -1"),
        (["--seed", str(2**63)], "seed is 9223372036854775808"),
        (["--count", "0"], "count is 0"),
        (["--guidance", "nan"], "guidance is nan"),
        (["--mask-polarity", "green"], "--mask-polarity"),
        (["--frobnicate"], "--frobnicate"),
        (["another.png"], "another.png"),
    ],
)
def test_an_option_out_of_range_is_refused(
    bench: Bench, words: list[str], seen: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(bench, bench.words(*words), seen, capsys)


@pytest.mark.parametrize("option", ["-o", "--sheet"])
@pytest.mark.parametrize(
    ("path", "seen"),
    [("nowhere/out.png", "does not exist"), ("bundle", "nothing"), ("out.jpg", "lossless"), ("dir.png", "is a folder")],
)
def test_an_output_that_cannot_be_written_is_refused_before_any_work(
    bench: Bench, option: str, path: str, seen: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (bench.photo.parent / "dir.png").mkdir()
    assert_refused(bench, bench.words(option, str(bench.photo.parent / path)), seen, capsys)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_folder_without_write_permission_is_refused(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    (bench.photo.parent / "locked").mkdir(mode=0o500)
    assert_refused(bench, bench.words("-o", str(bench.photo.parent / "locked" / "out.png")), "not writable", capsys)


def _lose_folder(bundle: Path) -> None:
    bundle.rename(bundle.parent / "moved")


def _lose_file(bundle: Path) -> None:
    (bundle / "step.onnx").unlink()


def _lose_manifest(bundle: Path) -> None:
    (bundle / "manifest.json").unlink()


def _break_hash(bundle: Path) -> None:
    (bundle / "window.onnx").write_bytes(b"spoilt")  # the first graph that an edit waits for, and as long as it was


def _raise_schema(bundle: Path) -> None:
    manifest = bundle / "manifest.json"
    manifest.write_text(manifest.read_text().replace(f'"schema_version": {SCHEMA_VERSION}', '"schema_version": 99', 1))


@pytest.mark.parametrize("verb", ["edit", "verify"])
@pytest.mark.parametrize(
    ("damage", "seen"),
    [
        (_lose_folder, "does not exist"),
        (_lose_file, "'step.onnx' is missing"),
        (_lose_manifest, "no manifest.json"),
        (_break_hash, "SHA-256"),
        (_raise_schema, f"schema 99; expected {SCHEMA_VERSION}"),
    ],
)
def test_a_bad_bundle_is_refused(
    bench: Bench, damage: Callable[[Path], None], seen: str, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(bench.bundle)
    assert_refused(bench, bench.words() if verb == "edit" else ["verify", str(bench.bundle)], seen, capsys)


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (["--prompt", "red " * 200], "tokens long; expected at most"),
        (["--prompt", "red" * 3000], "9000 bytes long"),
        (["--solver", "magic"], "magic"),
    ],
)
def test_what_only_the_real_bundle_can_judge_is_refused(
    bench: Bench, words: list[str], seen: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(bench, bench.words("--bundle", str(default_bundle_path()), *words), seen, capsys)


@pytest.mark.parametrize(
    "words", [["edit", "gone\n\x1b[31m.png", "--mask", "m", "--prompt", "p"], ["verify", "gone"], ["fly"]]
)
def test_the_process_itself_exits_with_2_and_one_clean_line(bench: Bench, words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "alterbute.cli", *words],
        cwd=bench.photo.parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "\x1b" not in done.stderr
