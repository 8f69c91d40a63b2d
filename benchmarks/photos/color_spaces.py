"""Edits of one photo in several colour spaces and depths, compared with the edit of the sRGB photo of 8 bits.

    python -m benchmarks.photos.color_spaces --out benchmarks/results/color_spaces.json

Every photo is converted to each space, edited there with the same seed, and the result converted back to sRGB by its profile. The
difference inside the mask is the Euclidean distance in CIE L*a*b* under D65 (dE76). `conversion` is the difference of the photos
themselves, before any edit, which 8 bits in another space cost. The photos are held-out rendered scenes of 96 pixels, and a real one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from alterbute.editor import Editor
from alterbute.images import Photo, load_mask, load_photo
from alterbute.images.color import from_srgb, to_srgb
from alterbute.images.color.icc_profile import (
    ADOBE_RGB_PRIMARIES,
    D65,
    P3_PRIMARIES,
    gamma_curve,
    make_profile,
    srgb_curve,
)
from alterbute.images.photo import Bytes, Pixels
from numpy.typing import NDArray

from benchmarks.common.bundle_options import bundle_folder, make_bundle_parser, save_figures
from benchmarks.common.machine import machine_facts
from demo.quality import draw_cases

_PICTURES: Final = Path(__file__).parents[2] / "docs" / "pictures"
_PROMPTS: Final = tuple(f"color: {name}" for name in ("red", "yellow", "green", "blue", "purple", "white"))
_P3: Final = make_profile("Display P3", P3_PRIMARIES, D65, srgb_curve())
_ADOBE: Final = make_profile("Adobe RGB", ADOBE_RGB_PRIMARIES, D65, gamma_curve(563 / 256))
_SPACES: Final[dict[str, tuple[bytes | None, int]]] = {
    "Display P3, 8 bits": (_P3, 8),
    "Adobe RGB, 8 bits": (_ADOBE, 8),
    "Display P3, 16 bits": (_P3, 16),
    "Adobe RGB, 16 bits": (_ADOBE, 16),
    "sRGB, 16 bits": (None, 16),
}


def to_lab(pixels: Pixels) -> NDArray[np.float64]:
    """CIE L*a*b* under D65 of sRGB levels [...,3] of 8 or 16 bits (IEC 61966-2-1, CIE 15)."""
    value = pixels.astype(np.float64) / np.iinfo(pixels.dtype).max
    light = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    ratio = light @ to_xyz.T / (to_xyz @ np.ones(3))
    cube = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    x, y, z = np.moveaxis(cube, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def draw_photos(scenes: int) -> Iterator[tuple[Bytes, Bytes, tuple[str, ...]]]:
    """Photos in sRGB with their masks and prompts: rendered scenes with one prompt each, and a real photo with several."""
    for case in draw_cases(scenes):
        if case.kind == "color":
            yield case.draw(case.before), case.mask, (case.prompt,)
    photo = load_photo(_PICTURES / "cup.webp")
    yield photo.to_8_bits().to_array().astype(np.uint8), load_mask(_PICTURES / "cup_mask.png", photo), _PROMPTS


def measure(folder: Path, scenes: int, steps: int | None) -> dict[str, Any]:
    """Differences of every space from sRGB, for both ways of pasting.

    Args:
        folder: The bundle's folder.
        scenes: Number of rendered objects; two edits of each.
        steps: Denoising steps; None takes the bundle's default.
    """
    found: dict[str, list[NDArray[np.float64]]] = {}
    kept: dict[str, bool] = {}
    with Editor.open(folder) as editor:
        for pixels, mask, prompts in draw_photos(scenes):
            is_object = mask >= 128
            for prompt in prompts:
                for detail in ("photo", "model"):
                    base = editor.edit(pixels, mask, prompt, seed=1, steps=steps, detail=detail).pixels
                    for name, (icc, bits) in _SPACES.items():
                        if bits > 8 and detail == "model":
                            continue
                        levels: Pixels = pixels if bits == 8 else pixels * np.uint16(257)
                        photo = Photo(pixels=from_srgb(levels, icc), icc=icc)
                        result = editor.edit(photo, mask, prompt, seed=1, steps=steps, detail=detail)
                        edited = to_lab(to_srgb(result.pixels, icc)[is_object])
                        unedited = to_lab(to_srgb(photo.pixels, icc)[is_object])
                        key = f"{name}, detail = {detail}"
                        found.setdefault(key, []).append(np.linalg.norm(edited - to_lab(base[is_object]), axis=1))
                        found.setdefault(f"{name}, conversion", []).append(
                            np.linalg.norm(unedited - to_lab(pixels[is_object]), axis=1)
                        )
                        is_outside = mask == 0
                        is_kept = np.array_equal(result.pixels[is_outside], photo.pixels[is_outside])
                        kept[key] = kept.get(key, True) and is_kept
    rows = {}
    for name, differences in found.items():
        means = [float(values.mean()) for values in differences]
        rows[name] = {
            "mean": round(float(np.mean(means)), 3),
            "p95": round(float(np.mean([np.percentile(values, 95) for values in differences])), 3),
            "worst_mean": round(max(means), 3),
            "worst_p95": round(max(float(np.percentile(values, 95)) for values in differences), 3),
            "edits": len(differences),
            **({"background_equal": kept[name]} if name in kept else {}),
        }
    return {"dE76_inside_the_mask": rows, "machine": machine_facts("onnxruntime", "numpy", "pillow")}


def main() -> None:
    """Measure, and write the result file."""
    parser = make_bundle_parser(__doc__)
    parser.add_argument("--scenes", type=int, default=20, help="rendered objects")
    options = parser.parse_args()
    save_figures(options, measure(bundle_folder(options), options.scenes, options.steps))


if __name__ == "__main__":
    main()
