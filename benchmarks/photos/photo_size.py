"""Cost of an edit by photo size: one object in photos of 0.26, 12 and 24 megapixels.

    python -m benchmarks.photos.photo_size --out benchmarks/results/photo_size.json

The base is a 512x512 photo whose object covers 5 %. The other cases are photos of 12 and 24 MP in which the object covers 5 %, too, or
has as many pixels as in the base. An edit takes arrays and returns a Pillow image. First edits encode everything, second edits find
all encodings cached; reading and writing files is timed separately. Every round measures each case once, and a ratio to the base is
the median over rounds.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from alterbute.bundle import open_bundle
from alterbute.editor import Editor
from alterbute.images import Photo, encode, load_mask, load_photo
from alterbute.images.photo import Bytes
from PIL import Image

from benchmarks.common.bundle_options import bundle_folder, make_bundle_parser, save_figures
from benchmarks.common.machine import machine_facts
from benchmarks.common.timing import clear_encodings, draw_scene, load_sample, open_timed_editor

SIZES: Final = {"12 MP": (3000, 4000), "24 MP": (4000, 6000)}
BASE: Final = (512, 512)
SHARE: Final = 0.05
"""Share of the base photo that the object covers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoCase:
    """A photo HWC uint8 and the mask HW uint8 of its object."""

    pixels: Bytes
    mask: Bytes


def draw_cases() -> dict[str, PhotoCase]:
    """Photos and masks of all cases by name, the base first."""
    height, width = BASE
    photos = {"base": PhotoCase(**dict(zip(("pixels", "mask"), draw_scene(height, width, SHARE), strict=True)))}
    for name, (rows, columns) in SIZES.items():
        pixels, mask = draw_scene(rows, columns, SHARE)
        photos[f"{name}, object of {SHARE:.0%}"] = PhotoCase(pixels=pixels, mask=mask)
        share = SHARE * height * width / (rows * columns)
        pixels, mask = draw_scene(rows, columns, share)
        photos[f"{name}, object of the base's size"] = PhotoCase(pixels=pixels, mask=mask)
    return photos


def time_edit(
    editor: Editor, case: PhotoCase, prompt: str, steps: int | None, *, is_first: bool
) -> tuple[float, dict[str, float]]:
    """Seconds of one edit from arrays to an image, and of its stages by name.

    Args:
        editor: The editor.
        case: Photo and mask.
        prompt: The prompt.
        steps: Denoising steps; None takes the bundle's default.
        is_first: Whether to clear the cache of encodings before.
    """
    if is_first:
        clear_encodings(editor)
    start = time.perf_counter()
    result = editor.edit(case.pixels, case.mask, prompt, steps=steps, seed=1)
    return time.perf_counter() - start, dict(result.timings)


def time_files(case: PhotoCase) -> dict[str, float]:
    """Milliseconds to read a photo (JPEG, PNG) and its mask (PNG), and to write an image of its size (PNG)."""
    picture = Image.fromarray(case.pixels)
    files = {name: io.BytesIO() for name in ("JPEG", "PNG")}
    for name, file in files.items():
        picture.save(file, name)
    mask = io.BytesIO()
    Image.fromarray(case.mask).save(mask, "PNG")
    photo: Photo = load_photo(case.pixels)
    calls: dict[str, Callable[[], object]] = {
        "read photo, JPEG": lambda: load_photo(files["JPEG"].getvalue()),
        "read photo, PNG": lambda: load_photo(files["PNG"].getvalue()),
        "read mask, PNG": lambda: load_mask(mask.getvalue(), photo),
        "write result, PNG": lambda: encode(picture),
    }
    times: dict[str, float] = {}
    for name, call in calls.items():
        spent = []
        for _ in range(2):
            start = time.perf_counter()
            call()
            spent.append(time.perf_counter() - start)
        times[name] = round(1000 * min(spent), 1)
    return times


def measure(
    folder: Path, *, steps: int | None, rounds: int, warm_up: int, threads: int | None, cases: str
) -> dict[str, Any]:
    """Times of edits in photos of several sizes, and their ratios to the base.

    Args:
        folder: The bundle's folder.
        steps: Denoising steps; None takes the bundle's default.
        rounds: Number of counted rounds; each edits every case once.
        warm_up: Number of rounds before them.
        threads: CPU threads; None takes the backend's default.
        cases: Substring of the names of the cases to measure besides the base; empty takes all.
    """
    bundle = open_bundle(folder)
    editor, _, _ = open_timed_editor(bundle, threads=threads)
    prompt = load_sample(bundle)[2]
    photos = {name: case for name, case in draw_cases().items() if name == "base" or cases in name}
    first_edits: dict[str, list[tuple[float, dict[str, float]]]] = {name: [] for name in photos}
    second_edit_s: dict[str, list[float]] = {name: [] for name in photos}
    with editor:
        for number in range(warm_up + rounds):
            for name, case in photos.items():
                first = time_edit(editor, case, prompt, steps, is_first=True)
                second, _ = time_edit(editor, case, prompt, steps, is_first=False)
                if number >= warm_up:
                    first_edits[name].append(first)
                    second_edit_s[name].append(second)
    rows: dict[str, Any] = {}
    for name, case in photos.items():
        whole = [edit_s for edit_s, _ in first_edits[name]]
        stages = {stage: [timings[stage] for _, timings in first_edits[name]] for stage in first_edits[name][0][1]}
        rows[name] = {
            "pixels": int(np.prod(case.mask.shape)),
            "edit_ms": round(1000 * statistics.median(whole), 2),
            "ratio": median_ratio(whole, [edit_s for edit_s, _ in first_edits["base"]]),
            "ratio_of_second_edits": median_ratio(second_edit_s[name], second_edit_s["base"]),
            "stages_ms": {stage: round(1000 * statistics.median(times), 2) for stage, times in stages.items()},
            "files_ms": time_files(case),
        }
        staged = sum(rows[name]["stages_ms"].values())
        rows[name]["stages_ms"]["read, check and mask"] = round(rows[name]["edit_ms"] - staged, 2)
    return {
        "steps": steps or bundle.manifest.defaults.steps,
        "rounds": rounds,
        "cases": rows,
        "machine": machine_facts("onnxruntime", "numpy", "pillow"),
    }


def median_ratio(times: list[float], base: list[float]) -> float:
    """Median over rounds of the ratio of a time to the base's time in the same round."""
    return round(statistics.median(time_s / base_s for time_s, base_s in zip(times, base, strict=True)), 4)


def main() -> None:
    """Measure, and write the result file."""
    parser = make_bundle_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="counted rounds")
    parser.add_argument("--warm-up", type=int, default=2, help="rounds before them")
    parser.add_argument("--cases", default="", help="measure only the base and cases whose name contains this")
    options = parser.parse_args()
    figures = measure(
        bundle_folder(options),
        steps=options.steps,
        rounds=options.rounds,
        warm_up=options.warm_up,
        threads=options.threads,
        cases=options.cases,
    )
    save_figures(options, figures)


if __name__ == "__main__":
    main()
