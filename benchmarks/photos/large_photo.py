"""One object in a photo of 12 and of 100 megapixels: the time of an edit, and the peak memory of `alterbute edit` on files.

    python -m benchmarks.photos.large_photo --out benchmarks/results/large_photo.json

The object has 5 megapixels in both photos, 5 % of the larger one. Times are of first edits, from arrays to a result, without reading
or writing files; the two photos alternate, and the ratio is the median over rounds. Memory is the largest resident memory of a whole
process that reads a JPEG or PNG and its mask, edits, and writes a PNG.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
from alterbute.bundle import open_bundle
from alterbute.images import Photo, save_photo
from PIL import Image

from benchmarks.common.bundle_options import bundle_folder, make_bundle_parser, save_figures
from benchmarks.common.machine import machine_facts
from benchmarks.common.timing import draw_scene, load_sample, open_timed_editor
from benchmarks.photos.photo_size import PhotoCase, median_ratio, time_edit

_SIZES: Final = {"12 MP": (3000, 4000), "100 MP": (8660, 11547)}
_OBJECT_PIXELS: Final = 5_000_000
_COMMAND: Final = """
import sys
from alterbute.cli import main
code = main(sys.argv[1:])
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print("PEAK_KIB", peak)
sys.exit(code)
"""


def draw_cases() -> dict[str, PhotoCase]:
    """Both photos with the same object, by name."""
    cases = {}
    for name, (rows, columns) in _SIZES.items():
        pixels, mask = draw_scene(rows, columns, _OBJECT_PIXELS / (rows * columns))
        cases[name] = PhotoCase(pixels=pixels, mask=mask)
    return cases


def time_cases(folder: Path, steps: int | None, rounds: int) -> dict[str, Any]:
    """Median milliseconds of first edits of both photos, and the ratio of the larger to the smaller one.

    Args:
        folder: The bundle's folder.
        steps: Denoising steps; None takes the bundle's default.
        rounds: Counted rounds; one more warms up.
    """
    bundle = open_bundle(folder)
    editor, _, _ = open_timed_editor(bundle)
    prompt, cases = load_sample(bundle)[2], draw_cases()
    whole: dict[str, list[float]] = {name: [] for name in cases}
    stages: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
    with editor:
        for number in range(rounds + 1):
            for name in cases if number % 2 else reversed(cases):
                seconds, timings = time_edit(editor, cases[name], prompt, steps, is_first=True)
                if number:
                    whole[name].append(seconds)
                    stages[name].append(timings)
    small, large = _SIZES
    return {
        "edit_ms": {name: round(1000 * statistics.median(seconds), 1) for name, seconds in whole.items()},
        "stages_ms": {
            name: {stage: round(1000 * statistics.median(row[stage] for row in rows), 1) for stage in rows[0]}
            for name, rows in stages.items()
        },
        "ratio": median_ratio(whole[large], whole[small]),
        "rounds": rounds,
    }


def measure_memory(folder: Path, steps: int | None) -> dict[str, float]:
    """Peak resident MB (of 10^6 bytes) of `alterbute edit` by photo and file format.

    Args:
        folder: The bundle's folder.
        steps: Denoising steps; None takes the bundle's default.
    """
    peaks: dict[str, float] = {}
    for name, case in draw_cases().items():
        with tempfile.TemporaryDirectory() as scratch:
            mask = save_photo(Photo(pixels=np.repeat(case.mask[:, :, None], 3, axis=2)), Path(scratch, "mask.png"))
            files: dict[str, Path] = {"PNG": save_photo(Photo(pixels=case.pixels), Path(scratch, "photo.png"))}
            files["JPEG"] = Path(scratch, "photo.jpg")
            Image.fromarray(case.pixels).save(files["JPEG"], quality=92)
            for form, photo in files.items():
                words = ["edit", str(photo), "--mask", str(mask), "--prompt", "color: red", "--seed", "1"]
                words += ["--output", str(Path(scratch, "out.png")), "--bundle", str(folder)]
                words += [] if steps is None else ["--steps", str(steps)]
                done = subprocess.run(
                    [sys.executable, "-c", _COMMAND, *words], check=True, capture_output=True, text=True
                )
                peaks[f"{name}, {form}"] = round(int(done.stdout.split("PEAK_KIB")[1]) * 1024 / 1e6)
    return peaks


def main() -> None:
    """Measure, and write the result file."""
    parser = make_bundle_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="counted rounds")
    options = parser.parse_args()
    folder = bundle_folder(options)
    figures = {
        **time_cases(folder, options.steps, options.rounds),
        "peak_mb": measure_memory(folder, options.steps),
        "object_pixels": _OBJECT_PIXELS,
        "machine": machine_facts("onnxruntime", "numpy", "pillow"),
    }
    save_figures(options, figures)


if __name__ == "__main__":
    main()
