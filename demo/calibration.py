"""Rendered edits that calibrate the demo's int8 bundle, of identities that the quality measure does not use.

python -m demo.calibration build/demo-edits
alterbute-export quantize engines/demo -o build/demo-int8 --edits build/demo-edits/edits.toml
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from demo.quality import draw_cases

SEED = 700_000_000  # between the seeds of training shards and those of held-out identities
SCENES = 6  # identities, each with an edit of every kind


def write_edits(folder: Path, scenes: int = SCENES) -> Path:
    """Write photos, masks and `edits.toml`, the file that `--edits` takes; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for number, case in enumerate(draw_cases(scenes, seed=SEED)):
        photo, mask = f"photo-{number:02d}.png", f"mask-{number:02d}.png"
        Image.fromarray(case.draw(case.before)).save(folder / photo)
        Image.fromarray(case.mask).save(folder / mask)
        entries.append(f'[[edit]]\nphoto = "{photo}"\nmask = "{mask}"\nprompt = "{case.prompt}"\nseed = {number}\n')
    path = folder / "edits.toml"
    path.write_text("\n".join(entries), encoding="utf-8")
    return path


if __name__ == "__main__":
    write_edits(Path(sys.argv[1]))
