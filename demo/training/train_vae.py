"""Stage 1: training of the autoencoder, which starts at a PCA.

Latents are deterministic with a little noise instead of a sampled posterior with a KL term, which collapsed the chroma
channels. The loss is L1 + 2 MSE + gradients + 4x4-pooled colour, with more weight inside the object, and a term that draws
every latent channel to zero mean and unit variance, so that the scaling factor is exactly 1 and no channel is lost in the
diffusion noise.
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


def draw_pictures(shard: Shard, index: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Draw pictures as the editor encodes them: photos, masked photos and references on grey.

    Args:
        shard: The tuples.
        index: [B], indices of the tuples.
        rng: Random numbers.

    Returns:
        Pictures [B,3,64,64] in [-1,1], and masks of the object [B,1,64,64] in [0,1].
    """
    photo = torch.from_numpy(shard.photo[index]).permute(0, 3, 1, 2).float() / 127.5 - 1
    reference = torch.from_numpy(shard.reference[index]).permute(0, 3, 1, 2).float() / 127.5 - 1
    mask = torch.from_numpy(shard.mask[index]).float()[:, None] / 255
    inside = torch.from_numpy(shard.reference_mask[index]).float()[:, None] / 255
    kind = torch.from_numpy(rng.choice(3, len(index), p=(0.6, 0.15, 0.25)))[:, None, None, None]
    picture = torch.where(kind == 0, photo, torch.where(kind == 1, photo * (1 - mask), reference * inside))
    return picture, torch.where(kind == 2, inside, mask)


def reconstruction_loss(out: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted loss of a reconstruction.

    Args:
        out: [B,3,h,w] in [-1,1].
        target: [B,3,h,w] in [-1,1].
        weight: [B,1,h,w] in [0,1], mask of the object.
    """
    w = 0.6 + 1.2 * weight
    error = out - target
    pixel = (w * (error.abs() + 2 * error.square())).mean()
    gradient = (error.diff(dim=-1).abs() * w[..., 1:]).mean() + (error.diff(dim=-2).abs() * w[..., 1:, :]).mean()
    pooled = F.avg_pool2d(error, 4)
    return pixel + 0.5 * gradient + pooled.abs().mean() + 2 * pooled.square().mean()


def moment_loss(latent: Tensor) -> Tensor:
    """Squared distance of the latent channels' means from 0 and of their variances from 1."""
    return latent.mean((0, 2, 3)).square().mean() + (latent.var((0, 2, 3)) - 1).square().mean()


def train(folder: Path, shards: Path, minutes: float) -> AutoencoderDC:
    """Train an autoencoder; a run resumes from `vae.pt` in the folder.

    Args:
        folder: Folder of the training state.
        shards: Folder of the training tuples.
        minutes: Training time, that of earlier runs included.
    """
    torch.manual_seed(0)
    vae, state_path = make_vae(), folder / "vae.pt"
    shard = load_shards(shards)
    held = len(shard.photo) // 50
    start_from_pca(vae, *draw_pictures(shard, np.arange(held, held + 512), np.random.default_rng(0)))
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
        picture, weight = draw_pictures(shard, rng.integers(held, len(shard.photo), BATCH), rng)
        latent = vae.encode(picture).latent
        out = vae.decode(latent + NOISE * torch.randn_like(latent)).sample
        loss = reconstruction_loss(out, picture, weight) + 0.02 * moment_loss(latent)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        step, running = step + 1, 0.99 * running + 0.01 * loss.item()
        if spent - last > 60:
            last = spent
            whole, inside = measure_psnr(vae, shard, np.arange(min(held, 64)))
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


@torch.no_grad()  # type: ignore[untyped-decorator]  # mypy skips torch: the decorator is Any
def measure_psnr(vae: AutoencoderDC, shard: Shard, index: np.ndarray) -> tuple[float, float]:
    """Mean PSNR in dB of encoded and decoded photos: of whole pictures, and inside the mask.

    Args:
        vae: The autoencoder.
        shard: The tuples.
        index: [B], indices of the tuples.
    """
    photo = torch.from_numpy(shard.photo[index]).permute(0, 3, 1, 2).float() / 127.5 - 1
    mask = torch.from_numpy(shard.mask[index]).float()[:, None] / 255
    error = ((vae.decode(vae.encode(photo).latent).sample.clamp(-1, 1) - photo) / 2).square()
    per_picture = (error * mask).sum((1, 2, 3)) / (3 * mask.sum((1, 2, 3)))
    return float(-10 * error.mean((1, 2, 3)).log10().mean()), float(-10 * per_picture.log10().mean())


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the training state")
    parser.add_argument("--shards", type=Path, required=True, help="folder of the training tuples")
    parser.add_argument("--minutes", type=float, default=30, help="training time, that of earlier runs included")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    vae = train(options.folder, options.shards, options.minutes)
    vae.save_pretrained(options.folder / "vae", safe_serialization=True)
