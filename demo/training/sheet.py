"""Sampling in torch, and contact sheets of labelled rows of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderDC, DDIMScheduler
from PIL import Image, ImageDraw
from torch import Tensor

from demo.model import SCHEDULER, EditorNetwork


@torch.no_grad()  # type: ignore[untyped-decorator]  # mypy skips torch: the decorator is Any
def sample_latents(
    editor: EditorNetwork,
    scene: Tensor,
    text: Tensor,
    null_text: Tensor,
    embeds: Tensor,
    steps: int,
    guidance: float,
    seed: int = 0,
) -> Tensor:
    """Sample clean latents [B,16,h,w] with DDIM and text guidance.

    Args:
        editor: The networks.
        scene: [B,33,h,w], mask, masked photo and reference.
        text: [B,T,128], hidden states of the prompts.
        null_text: [1,T,128], hidden states of the empty prompt.
        embeds: [B,128], the references' image embeddings.
        steps: Denoising steps.
        guidance: Scale of text guidance.
        seed: Seed of the noise.
    """
    scheduler = DDIMScheduler(**SCHEDULER)
    scheduler.set_timesteps(steps)
    x = torch.randn(
        (len(scene), editor.unet.config.out_channels, *scene.shape[-2:]), generator=torch.Generator().manual_seed(seed)
    )
    for t in scheduler.timesteps:
        timestep = t.repeat(len(x))
        out = editor(x, timestep, scene, text, embeds)
        if guidance != 1:
            out = guidance * out + (1 - guidance) * editor(x, timestep, scene, null_text.expand_as(text), embeds)
        x = scheduler.step(out, t, x).prev_sample
    return x


def decode_pixels(vae: AutoencoderDC, latents: Tensor) -> np.ndarray:
    """Pictures [B,H,W,3] uint8 of latents [B,16,h,w]."""
    with torch.no_grad():
        out = vae.decode(latents.float()).sample
    pictures: np.ndarray = np.clip(np.rint(out.permute(0, 2, 3, 1).numpy() * 127.5 + 127.5), 0, 255).astype(np.uint8)
    return pictures


def write_contact_sheet(rows: list[tuple[str, list[np.ndarray]]], path: Path, zoom: int = 2, across: int = 2) -> None:
    """Write labelled rows of square pictures of equal size to a PNG file.

    Args:
        rows: Label and pictures HWC uint8 of each row.
        path: The file.
        zoom: Factor by which pictures are enlarged.
        across: Number of rows side by side.
    """
    side = rows[0][1][0].shape[0] * zoom
    width, height = side * len(rows[0][1]) + 8, side + 14
    sheet = Image.new("RGB", (width * across, height * -(-len(rows) // across)), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (label, row) in enumerate(rows):
        x, y = (i % across) * width, (i // across) * height
        draw.text((x + 2, y + 1), label, fill="black")
        for j, picture in enumerate(row):
            sheet.paste(Image.fromarray(picture).resize((side, side), Image.Resampling.NEAREST), (x + j * side, y + 13))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
