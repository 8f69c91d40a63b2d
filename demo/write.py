"""Write the checkpoint folder from the training state: averaged weights, tokenizer, settings and sample photo."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderDC
from PIL import Image

from demo.model import EditorNetwork, make_settings, save_checkpoint
from demo.rendering import render
from demo.text import make_tokenizer

GUIDANCE = 1.2
# Attributes that the quality measure finds learned. The checkpoint was trained on material and texture, too, but does not follow
# them yet.
LEARNED_ATTRIBUTES = {"color": render.ATTRIBUTES["color"]}
SAMPLE_SEED = 900_100_010  # an identity that is not in the training data


def sample_photo(seed: int = SAMPLE_SEED, width: int = 160, height: int = 120) -> tuple[Image.Image, Image.Image]:
    """Render the photo and mask that `alterbute edit` uses by default; a rendering, so that no third-party rights apply.

    Args:
        seed: Seed of the scene.
        width: Columns of pixels.
        height: Rows of pixels.
    """
    rng = np.random.default_rng(seed)
    identity = render.sample_identity(rng, "teapot")
    view = replace(render.sample_view(rng, identity), yaw=0.35, pitch=0.32)
    framed = render.frame(view, identity, margin=width / 60, shift=np.array([0.12, 0.08]))
    g = render.trace(identity, framed, 2 * width, 2 * height)
    look = render.Look(color="blue", material="glossy", texture="plain")
    picture, coverage = render.compose(
        render.shade(identity, look, render.sample_light(rng), g), g, render.backdrop(rng, g.hit.shape), 2
    )
    mask = np.where(coverage >= 0.25, 255, 0).astype(np.uint8)
    return Image.fromarray(render.to_uint8(picture)), Image.fromarray(mask)


def write_checkpoint(state: Path, folder: Path) -> None:
    """Write the checkpoint from the training state's folder to `folder`."""
    tokenizer = make_tokenizer()
    editor = EditorNetwork(len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id)
    editor.load_state_dict(torch.load(state / "editor.pt", weights_only=True)["average"])
    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint(
        folder,
        editor,
        AutoencoderDC.from_pretrained(state / "vae"),
        tokenizer,
        make_settings(GUIDANCE, LEARNED_ATTRIBUTES),
    )
    photo, mask = sample_photo()
    (folder / "sample").mkdir(exist_ok=True)
    photo.save(folder / "sample" / "photo.png")
    mask.save(folder / "sample" / "mask.png")


if __name__ == "__main__":
    write_checkpoint(Path(sys.argv[1]), Path(sys.argv[2]))
