"""Both ways of pasting an edit: time, memory, and, for photos of your own, the pictures side by side.

    python -m benchmarks.photos.paste_detail --out benchmarks/results/paste_detail.json
    python -m benchmarks.photos.paste_detail --bundle BUNDLE --photo PHOTO --mask MASK --prompt "color: red" --pictures FOLDER

`model` enlarges the model's pixels, `photo` applies the edit's local colour map to the photo's own pixels; it decodes the photo's own
window, too. Every edit is the first one of its photo, so that nothing is cached, and the two ways alternate. Memory is the largest
resident memory of a process while it makes one edit of a 24 MP photo, without what it held before.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
from alterbute.bundle import open_bundle
from alterbute.editor import Editor
from alterbute.encode.prompt import first_prompt
from alterbute.images import load_photo, load_region
from alterbute.images.photo import Bytes
from PIL import Image

from benchmarks.common.bundle_options import bundle_folder, make_bundle_parser, save_figures
from benchmarks.common.machine import machine_facts
from benchmarks.common.timing import draw_scene
from benchmarks.memory import reset_peak, resident_mb

_WAYS: Final = ("model", "photo")
_SIZES: Final = {"512x512": (512, 512), "12 MP": (3000, 4000)}
_LARGE: Final = (4000, 6000)


def time_edits(editor: Editor, pixels: Bytes, mask: Bytes, prompt: str, rounds: int) -> dict[str, float]:
    """Median seconds of a first edit by way of pasting, and their ratio.

    Args:
        editor: The editor.
        pixels: HWC uint8.
        mask: HW uint8, 255 = object.
        prompt: The prompt.
        rounds: Edits of each way.
    """
    seconds: dict[str, list[float]] = {way: [] for way in _WAYS}
    for number in range(rounds + 1):
        for way in _WAYS if number % 2 else reversed(_WAYS):
            photo = pixels.copy()
            middle = np.argwhere(mask > 0)[int((mask > 0).sum() // 2)]
            photo[tuple(middle)] = (number, _WAYS.index(way), 7)  # another photo, so that nothing is cached
            start = time.perf_counter()
            editor.edit(photo, mask, prompt, seed=1, detail=way)
            if number:  # the first round warms up
                seconds[way].append(time.perf_counter() - start)
    medians = {way: statistics.median(values) for way, values in seconds.items()}
    return {f"{way}_s": round(value, 4) for way, value in medians.items()} | {
        "ratio": round(medians["photo"] / medians["model"], 3)
    }


def measure_memory(folder: Path, way: str) -> dict[str, float]:
    """Megabytes that a fresh process takes for one edit of a 24 MP photo: `edit_mb` beside its libraries and pictures, `peak_mb` in all."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.photos.paste_detail",
        "--memory",
        way,
        "--bundle",
        str(folder.resolve()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    if done.returncode != 0:
        raise SystemExit(f"the measure of memory failed:\n{done.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _run_memory(folder: Path, way: str) -> None:
    pixels, mask = draw_scene(*_LARGE, 0.3)
    with Editor(open_bundle(folder), backend="onnxruntime") as editor:
        reset_peak()
        before = resident_mb("VmRSS")
        editor.edit(pixels, mask, first_prompt(editor.manifest.attributes) or "color: red", seed=1, detail=way)  # type: ignore[arg-type]
        peak = resident_mb("VmHWM")
    print(json.dumps({"edit_mb": round(peak - before), "peak_mb": round(peak)}))


def write_pictures(editor: Editor, photo_path: Path, mask_path: Path, prompt: str, folder: Path) -> dict[str, Any]:
    """Write one edit, pasted in both ways, as PNG files: whole, and a crop at 100 % side by side; returns how far they differ.

    Args:
        editor: The editor.
        photo_path: The photo.
        mask_path: Its mask.
        prompt: The prompt.
        folder: Where the pictures are written.
    """
    photo = load_photo(photo_path)
    region = load_region(mask_path, photo)
    subject = editor.prepare(photo, region)
    images = {way: subject.edit(prompt, seed=1, detail=way).image.convert("RGB") for way in _WAYS}
    box = subject.windows[0].box.inside(photo.height, photo.width)
    left, top = box.left + max(box.width - 600, 0) // 2, box.top + max(box.height - 600, 0) // 2
    crop = (left, top, min(left + 600, box.right), min(top + 600, box.bottom))
    parts = [image.crop(crop) for image in (photo.to_pil().convert("RGB"), *images.values())]
    row = Image.new("RGB", (sum(part.width + 8 for part in parts) - 8, parts[0].height), "white")
    for index, part in enumerate(parts):
        row.paste(part, (index * (parts[0].width + 8), 0))
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in {**images, "photo-model-guided": row}.items():
        image.save(folder / f"{photo_path.stem}-{name}.png")
    inside = region.object > 0
    ours, theirs, original = (
        np.asarray(image)[inside].astype(float)
        for image in (images["photo"], images["model"], photo.to_pil().convert("RGB"))
    )
    return {
        "photo": photo_path.name,
        "prompt": prompt,
        "mean_difference_of_both": round(float(np.abs(ours - theirs).mean()), 2),
        "mean_change_with_photo": round(float(np.abs(ours - original).mean()), 2),
        "mean_change_with_model": round(float(np.abs(theirs - original).mean()), 2),
    }


def main() -> None:
    """Measure, or write the pictures of a photo."""
    parser = make_bundle_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="edits of each way and size")
    parser.add_argument("--photo", type=Path, default=None, help="a photo of your own")
    parser.add_argument("--mask", type=Path, default=None, help="its mask")
    parser.add_argument("--prompt", default=None, help="the prompt; default: the vocabulary's first value")
    parser.add_argument("--pictures", type=Path, default=Path("."), help="folder of the pictures")
    parser.add_argument("--memory", choices=_WAYS, default=None, help="measure memory in this process")
    options = parser.parse_args()
    folder = bundle_folder(options)
    if options.memory:
        _run_memory(folder, options.memory)
        return
    editor = Editor.open(folder, threads=options.threads)
    prompt = options.prompt or first_prompt(editor.manifest.attributes) or "color: red"
    if options.photo:
        print(json.dumps(write_pictures(editor, options.photo, options.mask, prompt, options.pictures), indent=1))
        return
    figures: dict[str, Any] = {"rounds": options.rounds, "times": {}}
    for name, (height, width) in _SIZES.items():
        pixels, mask = draw_scene(height, width, 0.05)
        figures["times"][name] = time_edits(editor, pixels, mask, prompt, options.rounds)
    figures["memory_24_mp_object_30_percent"] = {way: measure_memory(folder, way) for way in _WAYS}
    save_figures(options, figures | {"machine": machine_facts("onnxruntime", "numpy")})


if __name__ == "__main__":
    main()
