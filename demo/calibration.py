"""Edits that calibrate the demo in int8: new identities from the renderer, in every way of the quality measure, which never sees them.

python -m demo.calibration build/demo-edits
alterbute-export quantize engines/demo -o build/demo-int8 --edits build/demo-edits/edits.toml
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from demo.quality import cases

SEED = 700_000_000  # between the training shards and the held-out identities
SCENES = 6


def write_edits(folder: Path, scenes: int = SCENES) -> Path:
    """Write photos, masks and `edits.toml`, the file that `--edits` takes; its path is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for number, case in enumerate(cases(scenes, seed=SEED)):
        photo, mask = f"photo-{number:02d}.png", f"mask-{number:02d}.png"
        Image.fromarray(case.draw(case.before)).save(folder / photo)
        Image.fromarray(case.mask).save(folder / mask)
        entries.append(f'[[edit]]\nphoto = "{photo}"\nmask = "{mask}"\nprompt = "{case.prompt}"\nseed = {number}\n')
    path = folder / "edits.toml"
    path.write_text("\n".join(entries), encoding="utf-8")
    return path


if __name__ == "__main__":
    write_edits(Path(sys.argv[1]))
