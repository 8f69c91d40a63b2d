"""Int8 bundles: quantized from an fp32 bundle that is not changed, smaller, for the CPU only, with the same guarantees."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from alterbute import Editor
from alterbute.bundle import default_bundle_path, open_bundle, verify_bundle
from alterbute.request import EditRequest
from alterbute_export.cli import main
from alterbute_export.errors import CalibrationError, PrecisionError
from alterbute_export.export_bundle import export_bundle
from alterbute_export.int8 import CalibrationEdit, default_edits, quantize_bundle, read_edits
from PIL import Image

DEMO = default_bundle_path()


def digest(folder: Path) -> str:
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo bundle in int8, calibrated on two edits of two steps."""
    folder = tmp_path_factory.mktemp("int8") / "bundle"
    before = digest(DEMO)
    quantize_bundle(DEMO, folder, default_edits(open_bundle(DEMO))[:2], steps=2)
    assert digest(DEMO) == before, "the source bundle was changed"
    return folder


def test_it_verifies_is_smaller_and_is_for_the_cpu_only(int8: Path) -> None:
    manifest = verify_bundle(int8).manifest
    assert {variant.backend for graph in manifest.graphs.values() for variant in graph.variants} == {"onnxruntime"}
    assert {name: graph.variants[0].precision for name, graph in manifest.graphs.items()}["step"] == "int8"
    sizes = [sum(entry.size for entry in item.files.values()) for item in (manifest, open_bundle(DEMO).manifest)]
    assert sizes[0] < 0.7 * sizes[1]


def test_the_audit_lists_the_share_of_each_type(int8: Path) -> None:
    audit = open_bundle(int8).manifest.graphs["step"].variants[0].audit
    assert audit is not None
    assert audit.shares["int8"] > 0.7
    assert sum(audit.shares.values()) == pytest.approx(1, abs=1e-3)


def test_the_edit_is_near_fp32_and_the_background_is_the_photos(int8: Path) -> None:
    sample = {name: Image.open(DEMO / "sample" / f"{name}.png") for name in ("photo", "mask")}
    results = {}
    for folder in (DEMO, int8):
        with Editor.open(folder) as editor:
            results[folder] = editor.edit(sample["photo"], sample["mask"], "color: red", seed=3)
    pixels, alpha, photo = (
        np.asarray(item) for item in (results[int8].image, results[int8].alpha, sample["photo"].convert("RGB"))
    )
    assert np.array_equal(pixels[alpha == 0], photo[alpha == 0])
    difference = pixels[alpha > 0].astype(float) - np.asarray(results[DEMO].image)[alpha > 0]
    assert 0 < np.sqrt((difference**2).mean()) < 6


def test_same_bytes_alone_and_beside_others(int8: Path) -> None:
    sample = {name: Image.open(DEMO / "sample" / f"{name}.png") for name in ("photo", "mask")}
    with Editor.open(int8) as editor:
        subject = editor.prepare(sample["photo"], sample["mask"])
        alone = subject.edit(EditRequest(prompt="color: red", seed=1, steps=3))
        others = [
            EditRequest(prompt=f"color: {name}", seed=seed, steps=3)
            for seed, name in enumerate(("green", "blue", "pink"), 5)
        ]
        together = subject.edit_many([*others, EditRequest(prompt="color: red", seed=1, steps=3)])
        assert together[-1].image.tobytes() == alone.image.tobytes()


def test_calibration_is_the_same_bytes_every_time(int8: Path, tmp_path: Path) -> None:
    quantize_bundle(DEMO, tmp_path / "again", default_edits(open_bundle(DEMO))[:2], steps=2)
    assert digest(tmp_path / "again") == digest(int8)


def test_a_checkpoint_is_exported_to_int8_in_one_call(checkpoint: Path, tmp_path: Path) -> None:
    photo, mask = Image.open(DEMO / "sample" / "photo.png"), Image.open(DEMO / "sample" / "mask.png")
    edits = [CalibrationEdit(photo=photo, mask=mask, prompt="color: red")]
    manifest = export_bundle(checkpoint, tmp_path / "bundle", precision="int8", edits=edits)
    assert verify_bundle(tmp_path / "bundle").manifest == manifest
    assert manifest.graphs["step"].variants[0].precision == "int8"
    assert sorted(path.name for path in (tmp_path / "bundle").glob("*.onnx")) == sorted(
        f"{name}.onnx" for name in manifest.graphs
    )
    with Editor.open(tmp_path / "bundle") as editor:
        assert editor.edit(photo, mask, "color: red", steps=2).image.size == photo.size


def test_only_fp32_bundles_are_quantized(int8: Path, tmp_path: Path) -> None:
    with pytest.raises(PrecisionError, match="the bundle's graphs are int8"):
        quantize_bundle(int8, tmp_path / "twice")


def test_an_edit_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    blank = Image.new("L", (64, 64))
    with pytest.raises(CalibrationError, match="calibration edit 1 failed"):
        quantize_bundle(
            DEMO, tmp_path / "out", [CalibrationEdit(photo=Image.new("RGB", (64, 64)), mask=blank, prompt="color: red")]
        )
    assert not (tmp_path / "out").exists()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for name in ("a.png", "m.png", "r.png"):
        Image.new("RGB", (64, 64)).save(tmp_path / name)
    return tmp_path / "edits.toml"


def test_edits_are_read_relative_to_their_file(pictures: Path) -> None:
    pictures.write_text(
        '[[edit]]\nphoto = "a.png"\nmask = "m.png"\nreference = "r.png"\nprompt = "color: red"\nseed = 4\n'
    )
    (edit,) = read_edits(pictures)
    assert (edit.photo, edit.reference, edit.prompt, edit.seed) == (
        pictures.parent / "a.png",
        pictures.parent / "r.png",
        "color: red",
        4,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[edit", "is not TOML"),
        ("", "has the keys"),
        ('[[edit]]\nphoto = "a.png"\n', "has no mask"),
        ('[[edit]]\nphoto = "a.png"\nmask = "m.png"\nprompt = 3\n', "prompt is 3"),
        ('[[edit]]\nphoto = "a.png"\nmask = "m.png"\nprompt = "p"\nsteps = 3\n', "the key 'steps'"),
        ('[[edit]]\nphoto = "a.png"\nmask = "gone.png"\nprompt = "p"\n', "gone.png is not there"),
    ],
)
def test_a_bad_file_of_edits_is_refused_with_the_fault(pictures: Path, text: str, message: str) -> None:
    pictures.write_text(text)
    with pytest.raises(CalibrationError, match=message):
        read_edits(pictures)


def test_the_command_writes_a_bundle_and_prints_the_types_of_each_graph(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = DEMO / "sample"
    pictures.write_text(
        f'[[edit]]\nphoto = "{source / "photo.png"}"\nmask = "{source / "mask.png"}"\nprompt = "color: red"\n'
    )
    target = pictures.parent / "out"
    assert main(["quantize", str(DEMO), "-o", str(target), "--edits", str(pictures), "--steps", "2"]) == 0
    assert "int8" in capsys.readouterr().err
    assert open_bundle(target).manifest.graphs["step"].variants[0].precision == "int8"


def test_edits_without_int8_are_refused(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", "nowhere", "-o", str(pictures.parent / "out"), "--edits", str(pictures)]) == 2
    assert "--precision int8" in capsys.readouterr().err
