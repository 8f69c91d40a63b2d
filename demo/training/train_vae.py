"""Stage 1: the autoencoder, started at a PCA. Plain latents with a little noise and no KL: a sampled posterior collapsed the chroma channels.

Loss: L1 + 2 MSE + gradients + 4x4-pooled colour, heavier inside the object, and a pull of every latent channel towards
zero mean and unit variance, so that the scaling factor is exactly 1 and no channel drowns in the diffusion noise.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderDC
from torch import Tensor

from demo.data import Shard, load_shards
from demo.model import make_vae
from demo.training.pca import start_from_pca

BATCH, LEARNING_RATE, NOISE = 16, 1e-3, 0.05


def pictures(shard: Shard, index: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """What the editor will encode: photos, photos with a grey hole, references on grey. ([B,3,64,64] in [-1,1], weight [B,1,64,64]).

    Args:
        shard: The tuples.
        index: Indices of the tuples.
        rng: Random numbers.
    """
    photo = torch.from_numpy(shard.photo[index]).permute(0, 3, 1, 2).float() / 127.5 - 1
    reference = torch.from_numpy(shard.reference[index]).permute(0, 3, 1, 2).float() / 127.5 - 1
    mask = torch.from_numpy(shard.mask[index]).float()[:, None] / 255
    inside = torch.from_numpy(shard.reference_mask[index]).float()[:, None] / 255
    kind = torch.from_numpy(rng.choice(3, len(index), p=(0.6, 0.15, 0.25)))[:, None, None, None]
    picture = torch.where(kind == 0, photo, torch.where(kind == 1, photo * (1 - mask), reference * inside))
    return picture, torch.where(kind == 2, inside, mask)


def loss_of(out: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted loss of a reconstruction.

    Args:
        out: [B,3,h,w].
        target: [B,3,h,w].
        weight: [B,1,h,w].
    """
    w = 0.6 + 1.2 * weight
    error = out - target
    pixel = (w * (error.abs() + 2 * error.square())).mean()
    gradient = (error.diff(dim=-1).abs() * w[..., 1:]).mean() + (error.diff(dim=-2).abs() * w[..., 1:, :]).mean()
    pooled = F.avg_pool2d(error, 4)
    return pixel + 0.5 * gradient + pooled.abs().mean() + 2 * pooled.square().mean()


def spread(latent: Tensor) -> Tensor:
    """How far the latent channels are from zero mean and unit variance."""
    return latent.mean((0, 2, 3)).square().mean() + (latent.var((0, 2, 3)) - 1).square().mean()


def train(folder: Path, shards: Path, minutes: float) -> AutoencoderDC:
    """Train for `minutes` (resumes from folder/vae.pt) and return the autoencoder.

    Args:
        folder: Folder of the state.
        shards: The tuples.
        minutes: Time of training.
    """
    torch.manual_seed(0)
    vae, state_path = make_vae(), folder / "vae.pt"
    shard = load_shards(shards)
    held = len(shard.photo) // 50
    start_from_pca(vae, *pictures(shard, np.arange(held, held + 512), np.random.default_rng(0)))
    optimizer = torch.optim.AdamW(vae.parameters(), lr=LEARNING_RATE, weight_decay=1e-3, betas=(0.9, 0.98))
    spent, step = 0.0, 0
    if state_path.exists():
        saved = torch.load(state_path, weights_only=True)
        vae.load_state_dict(saved["vae"])
        optimizer.load_state_dict(saved["optimizer"])
        spent, step = saved["spent"], saved["step"]
    rng = np.random.default_rng(step)
    begin, last, running = time.monotonic() - spent, 0.0, 0.0
    while (spent := time.monotonic() - begin) < minutes * 60:
        rate = LEARNING_RATE * min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * spent / (minutes * 60)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        picture, weight = pictures(shard, rng.integers(held, len(shard.photo), BATCH), rng)
        latent = vae.encode(picture).latent
        out = vae.decode(latent + NOISE * torch.randn_like(latent)).sample
        loss = loss_of(out, picture, weight) + 0.02 * spread(latent)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        step, running = step + 1, 0.99 * running + 0.01 * loss.item()
        if spent - last > 60:
            last = spent
            whole, inside = quality(vae, shard, np.arange(min(held, 64)))
            print(
                json.dumps(
                    {
                        "stage": "vae",
                        "minutes": round(spent / 60, 1),
                        "step": step,
                        "loss": round(running, 4),
                        "psnr": round(whole, 2),
                        "psnr_inside": round(inside, 2),
                    }
                ),
                flush=True,
            )
            torch.save(
                {"vae": vae.state_dict(), "optimizer": optimizer.state_dict(), "spent": spent, "step": step}, state_path
            )
    torch.save({"vae": vae.state_dict(), "optimizer": optimizer.state_dict(), "spent": spent, "step": step}, state_path)
    return vae


@torch.no_grad()  # type: ignore[untyped-decorator]
def quality(vae: AutoencoderDC, shard: Shard, index: np.ndarray) -> tuple[float, float]:
    """PSNR of the round trip in dB on held-out photos: (whole picture, inside the mask).

    Args:
        vae: The autoencoder.
        shard: The tuples.
        index: Indices of the tuples.
    """
    photo = torch.from_numpy(shard.photo[index]).permute(0, 3, 1, 2).float() / 127.5 - 1
    mask = torch.from_numpy(shard.mask[index]).float()[:, None] / 255
    error = ((vae.decode(vae.encode(photo).latent).sample.clamp(-1, 1) - photo) / 2).square()
    per_picture = (error * mask).sum((1, 2, 3)) / (3 * mask.sum((1, 2, 3)))
    return float(-10 * error.mean((1, 2, 3)).log10().mean()), float(-10 * per_picture.log10().mean())


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    trained = train(options.folder, options.shards, options.minutes)
    trained.save_pretrained(options.folder / "vae", safe_serialization=True)
