"""Is every picture file that phones, cameras, studios and tools write read rightly, or refused by its name?

Makes small files with as many independent encoders as are installed, reads each as a user would, and compares pixels, alpha and
colours with what other decoders, or the picture's own arithmetic, give. Exits with 1 if any file is silently other.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.common.machine import machine_facts
from benchmarks.picture_files.check import Verdict, judge
from benchmarks.picture_files.expectations import Case, FileRecipe
from benchmarks.picture_files.pack import TELLING, pack, unpack
from benchmarks.picture_files.recipes import (
    avif_files,
    bmp_gif_files,
    heic_files,
    jpeg_files,
    jpeg_kinds,
    other_files,
    png_colours,
    png_files,
    tiff_files,
    tiff_kinds,
    webp_files,
)
from benchmarks.picture_files.tools import version_of

PACKAGES = (
    "pillow",
    "pillow-heif",
    "pyvips-binary",
    "opencv-python-headless",
    "imagecodecs",
    "tifffile",
    "imageio-ffmpeg",
)
PROGRAMS = (
    "imagemagick", "gm", "ffmpeg", "new-ffmpeg", "cjpeg", "djpeg", "cwebp", "gif2webp", "avifenc", "heif-enc", "cjxl", "exiftool",
    "pnmtopng", "tiffcp", "gimp",
)  # fmt: skip
_SLACK = 12
BAD = ("silently other", "shallower", "crash")


def recipes() -> Iterator[FileRecipe]:
    """Recipes of all files."""
    for module in (
        jpeg_files, jpeg_kinds, png_files, png_colours, webp_files, avif_files, heic_files, tiff_files, tiff_kinds, bmp_gif_files,
        other_files,
    ):  # fmt: skip
        yield from module.recipes()


def make_cases(pattern: str = "") -> tuple[list[Case], dict[str, str]]:
    """Make all files whose names hold a pattern; also returns why some were not made, by name."""
    cases, missing = [], {}
    for recipe in recipes():
        if pattern not in recipe.name:
            continue
        try:
            cases.append(recipe.cook())
        except Exception as fault:  # a missing encoder, or one that refuses: each in its own way
            missing[recipe.name] = f"{type(fault).__name__}: {fault}"[:300]
    return cases, missing


def check(cases: list[Case], folder: Path) -> dict[str, Verdict]:
    """Write each file into a folder and judge what becomes of it, by name."""
    folder.mkdir(parents=True, exist_ok=True)
    verdicts = {}
    for case in cases:
        path = folder / case.name
        path.write_bytes(case.data)
        verdicts[case.name] = judge(path, case.expected)
    return verdicts


def report(cases: list[Case], verdicts: dict[str, Verdict], missing: dict[str, str]) -> dict[str, Any]:
    """The result file: every file, and counts by outcome and by kind of file.

    Args:
        cases: The files.
        verdicts: What became of each, by name.
        missing: Why files were not made, by name.
    """
    rows = [
        {
            "name": case.name,
            "encoder": case.encoder,
            "kind": case.kind,
            "bytes": len(case.data),
            "outcome": verdicts[case.name].outcome,
            "difference": verdicts[case.name].difference,
            "colour_difference": verdicts[case.name].colour_difference,
            "message": verdicts[case.name].message,
        }
        for case in cases
    ]
    families: dict[str, Counter[str]] = {}
    for case in cases:
        families.setdefault(case.kind.split()[0], Counter())[verdicts[case.name].outcome] += 1
    return {
        "machine": machine_facts("numpy", *PACKAGES),
        "programs": {name: version for name in PROGRAMS if (version := version_of(name))},
        "files": len(cases),
        "outcomes": dict(Counter(verdict.outcome for verdict in verdicts.values())),
        "families": {family: dict(counts) for family, counts in sorted(families.items())},
        "encoders": dict(Counter(case.encoder for case in cases).most_common()),
        "cases": rows,
        "not_made": missing,
    }


def main() -> int:
    """Run the campaign; returns 1 if a file is silently other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--files", type=Path, default=None, help="folder that keeps the files; default: a temporary one"
    )
    parser.add_argument("--out", type=Path, default=None, help="result file (JSON); default: print the counts only")
    parser.add_argument("--pack", type=Path, default=None, help="also store files and expectations in this zip")
    parser.add_argument("--telling", action="store_true", help="pack only the most telling files")
    parser.add_argument(
        "--from-pack", type=Path, default=None, help="check the files of this zip instead of making any"
    )
    parser.add_argument("--only", default="", help="make only the files whose name holds this")
    parser.add_argument("--strict", action="store_true", help="also fail if a file is badly refused, or not read")
    options = parser.parse_args()
    cases, missing = (list(unpack(options.from_pack)), {}) if options.from_pack else make_cases(options.only)
    with tempfile.TemporaryDirectory(prefix="picture_files-") as folder:
        verdicts = check(cases, options.files or Path(folder))
    result = report(cases, verdicts, missing)
    if options.pack:
        telling = [case for case in cases if case.name in TELLING or not options.telling]
        pack(telling, options.pack, _SLACK if options.telling else 0)
    if options.out:
        # Without indentation: hundreds of cases.
        text = json.dumps(result, separators=(",", ":"), ensure_ascii=False)
        options.out.write_text(text + "\n", encoding="utf-8")
    for name, verdict in verdicts.items():
        if not verdict.is_good:
            print(f"{verdict.outcome:15} {name}: {verdict.difference} {verdict.colour_difference} {verdict.message}")
    for name, why in missing.items():
        print(f"not made        {name}: {why}")
    print(json.dumps({key: result[key] for key in ("files", "outcomes", "families")}, indent=1))
    is_bad = any(verdict.outcome in BAD or (options.strict and not verdict.is_good) for verdict in verdicts.values())
    return int(is_bad)


if __name__ == "__main__":
    raise SystemExit(main())
