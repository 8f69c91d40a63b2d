"""Cost of an edit by the size of the photo: edits of one object in photos of 0.26, 12 and 24 megapixels.

    python -m benchmarks.photo_size --out benchmarks/results/photo_size.json

The base is a 512x512 photo whose object covers 5 %. Against it: photos of 12 and 24 MP in which the object covers 5 % again (it grows with
the photo), and in which it has the same number of pixels (the photo grows around it). An edit goes from arrays to a Pillow picture, and
no encoding is cached; reading and writing files is timed apart. All cases take turns in every round, and a ratio is the
median of the rounds' own ratios.
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

from benchmarks.common.bundle_options import bundle_parser, chosen_bundle, keep
from benchmarks.common.machine import machine_facts
from benchmarks.common.timing import draw_scene, forget_encodings, open_timed, sample

SIZES: Final = {"12 MP": (3000, 4000), "24 MP": (4000, 6000)}
BASE: Final = (512, 512)
SHARE: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoCase:
    """A photo HWC uint8 and its object HW uint8."""

    pixels: Bytes
    mask: Bytes


def draw_cases() -> dict[str, PhotoCase]:
    """All cases by name, the base first."""
    height, width = BASE
    scenes = {"base": PhotoCase(**dict(zip(("pixels", "mask"), draw_scene(height, width, SHARE), strict=True)))}
    for name, (rows, columns) in SIZES.items():
        pixels, mask = draw_scene(rows, columns, SHARE)
        scenes[f"{name}, object of {SHARE:.0%}"] = PhotoCase(pixels=pixels, mask=mask)
        share = SHARE * height * width / (rows * columns)
        pixels, mask = draw_scene(rows, columns, share)
        scenes[f"{name}, object of the base's size"] = PhotoCase(pixels=pixels, mask=mask)
    return scenes


def time_edit(
    editor: Editor, scene: PhotoCase, prompt: str, steps: int | None, *, is_first: bool
) -> tuple[float, dict[str, float]]:
    """Seconds of one edit from arrays to a picture, and of its stages.

    Args:
        editor: The editor.
        scene: Photo and mask.
        prompt: The prompt.
        steps: Denoising steps; None takes the bundle's default.
        is_first: Clear the cache of encodings before.
    """
    if is_first:
        forget_encodings(editor)
    start = time.perf_counter()
    result = editor.edit(scene.pixels, scene.mask, prompt, steps=steps, seed=1)
    return time.perf_counter() - start, dict(result.timings)


def time_files(scene: PhotoCase) -> dict[str, float]:
    """Milliseconds to read a photo as JPEG and as PNG, its mask as PNG, and to write the result as PNG."""
    picture = Image.fromarray(scene.pixels)
    files = {name: io.BytesIO() for name in ("JPEG", "PNG")}
    for name, file in files.items():
        picture.save(file, name)
    mask = io.BytesIO()
    Image.fromarray(scene.mask).save(mask, "PNG")
    photo: Photo = load_photo(scene.pixels)
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
    """Measure the cost of edits in photos of several sizes, relative to the base.

    Args:
        folder: The bundle's folder.
        steps: Denoising steps; None takes the bundle's default.
        rounds: Edits of each case, alternating.
        warm_up: Rounds before them.
        threads: CPU threads; None takes the backend's default.
        cases: Only the base and cases whose name contains this; empty for all.
    """
    bundle = open_bundle(folder)
    editor, _, _ = open_timed(bundle, threads=threads)
    prompt = sample(bundle)[2]
    scenes = {name: scene for name, scene in draw_cases().items() if name == "base" or cases in name}
    found: dict[str, list[tuple[float, dict[str, float]]]] = {name: [] for name in scenes}
    seconds: dict[str, list[float]] = {name: [] for name in scenes}
    with editor:
        for number in range(warm_up + rounds):
            for name, scene in scenes.items():
                first = time_edit(editor, scene, prompt, steps, is_first=True)
                second, _ = time_edit(editor, scene, prompt, steps, is_first=False)
                if number >= warm_up:
                    found[name].append(first)
                    seconds[name].append(second)
    rows: dict[str, Any] = {}
    for name, scene in scenes.items():
        whole = [edit_s for edit_s, _ in found[name]]
        stages = {stage: [timings[stage] for _, timings in found[name]] for stage in found[name][0][1]}
        rows[name] = {
            "pixels": int(np.prod(scene.mask.shape)),
            "edit_ms": round(1000 * statistics.median(whole), 2),
            "ratio": ratio(whole, [edit_s for edit_s, _ in found["base"]]),
            "ratio_of_second_edits": ratio(seconds[name], seconds["base"]),
            "stages_ms": {stage: round(1000 * statistics.median(times), 2) for stage, times in stages.items()},
            "files_ms": time_files(scene),
        }
        staged = sum(rows[name]["stages_ms"].values())
        rows[name]["stages_ms"]["read, check and mask"] = round(rows[name]["edit_ms"] - staged, 2)
    return {
        "steps": steps or bundle.manifest.defaults.steps,
        "rounds": rounds,
        "cases": rows,
        "machine": machine_facts("onnxruntime", "numpy", "pillow"),
    }


def ratio(times: list[float], base: list[float]) -> float:
    """The median of the rounds' own ratios."""
    return round(statistics.median(time / other for time, other in zip(times, base, strict=True)), 4)


def main() -> None:
    """Measure and write."""
    parser = bundle_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--cases", default="", help="only the base and cases whose name holds this")
    options = parser.parse_args()
    figures = measure(
        chosen_bundle(options),
        steps=options.steps,
        rounds=options.rounds,
        warm_up=options.warm_up,
        threads=options.threads,
        cases=options.cases,
    )
    keep(options, figures)


if __name__ == "__main__":
    main()
