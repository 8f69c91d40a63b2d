"""Stage 2: training of the editor with the relaxed objective. UNet, text and image encoder train together on fixed latents.

The network predicts the clean latent as a residual to the collage (reference inside the mask, photo outside), so that the
untrained editor keeps everything. High-noise timesteps are more frequent, because they decide the edit. The loss is weighted
by the mask. For guidance, the prompt is dropped in 10 % of the samples and the reference in 5 %.
"""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from diffusers import AutoencoderDC, DDIMScheduler
from torch import Tensor

from demo.data import Shard, load_shards
from demo.model import SCHEDULER, EditorNetwork, collage, load_editor
from demo.text import encode, make_prompt, make_tokenizer
from demo.training.muon import Muon
from demo.training.sheet import decode_pixels, sample_latents, write_contact_sheet

LEARNING_RATE, BATCH, EMA = 1.2e-3, 32, 0.998
TEXT_DROP, REFERENCE_DROP, OWN_GUESS = 0.10, 0.05, 0.6  # shares of the samples, see `Trainer.conditions`, `own_guess`


def to_unit(pictures: np.ndarray) -> Tensor:
    """Pictures [B,H,W,3] uint8 as [B,3,H,W] f32 in [-1,1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()  # type: ignore[untyped-decorator]  # mypy skips torch: the decorator is Any
def encode_latents(vae: AutoencoderDC, shard: Shard, folder: Path, rank: int, world: int) -> dict[str, Tensor]:
    """Latents [N,16,16,16] fp16 of all photos, masked photos and references, and masks [N,1,16,16], by name.

    Every process encodes its share into a file of its own, waits for the others and reads the shares of all.

    Args:
        vae: The autoencoder.
        shard: The tuples.
        folder: Folder of the files.
        rank: Index of this process.
        world: Number of processes.
    """
    cuts = [len(shard.photo) * share // world for share in range(world + 1)]
    if not (path := folder / f"latents-{rank}-of-{world}.pt").exists():
        parts: dict[str, list[Tensor]] = {"photo": [], "masked": [], "reference": [], "mask": []}
        for at in range(cuts[rank], cuts[rank + 1], 32):
            cut = slice(at, min(at + 32, cuts[rank + 1]))
            photo, mask = to_unit(shard.photo[cut]), torch.from_numpy(shard.mask[cut]).float()[:, None] / 255
            reference = to_unit(shard.reference[cut]) * (torch.from_numpy(shard.reference_mask[cut])[:, None] > 0)
            for name, picture in (("photo", photo), ("masked", photo * (1 - mask)), ("reference", reference)):
                parts[name].append(vae.encode(picture).latent.half())
            parts["mask"].append(F.avg_pool2d(mask, 4).half())
        torch.save({name: torch.cat(tensors) for name, tensors in parts.items()}, path)
    if world > 1:
        dist.barrier()
    shares = [torch.load(folder / f"latents-{share}-of-{world}.pt", weights_only=True) for share in range(world)]
    return {name: torch.cat([share[name] for share in shares]) for name in shares[0]}


@torch.no_grad()  # type: ignore[untyped-decorator]  # mypy skips torch: the decorator is Any
def measure_visibility(vae: AutoencoderDC, latent: Tensor) -> Tensor:
    """Loss weights [1,C,1,1] of mean 1: the effect of each latent channel on the decoded picture.

    The effect of channels of unit variance differs tenfold. The root of the mean squared change is taken, so that
    channels with small effects still count.
    """
    base = vae.decode(latent).sample
    moved = [
        (vae.decode(latent + 0.5 * F.one_hot(torch.tensor(c), latent.shape[1])[None, :, None, None]).sample - base)
        .square()
        .mean()
        for c in range(latent.shape[1])
    ]
    weight = torch.stack(moved).sqrt()
    return (weight / weight.mean())[None, :, None, None]


def join_scene(latents: dict[str, Tensor], index: Tensor) -> Tensor:
    """Scenes [B,33,h,w] of some tuples: mask, masked photo and reference."""
    return torch.cat([latents["mask"][index], latents["masked"][index], latents["reference"][index]], 1).float()


def draw_timesteps(count: int, generator: torch.Generator) -> Tensor:
    """Draw timesteps [count] in 0..999, 70 % of them at or above 600."""
    high = torch.rand(count, generator=generator) < 0.7
    t = torch.rand(count, generator=generator)
    return torch.where(high, 600 + t * 400, t * 600).long().clamp(0, 999)


def make_optimizers(editor: EditorNetwork) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the UNet's inner weights; AdamW for its first and last layers, norms and biases, and the encoders."""
    inner = {
        name
        for name, weight in editor.unet.named_parameters()
        if weight.ndim > 1 and not name.startswith(("conv_in", "conv_out", "encoder_hid_proj"))
    }
    named = {name.removeprefix("unet."): weight for name, weight in editor.named_parameters()}
    rest = [weight for name, weight in named.items() if name not in inner]
    return (
        Muon([named[name] for name in sorted(inner)], lr=LEARNING_RATE),
        torch.optim.AdamW(rest, lr=LEARNING_RATE, weight_decay=1e-2, betas=(0.9, 0.98)),
    )


class Trainer:
    """Networks, averaged weights, optimizers and data of one of several training processes.

    Args:
        folder: Folder of the training state, with the autoencoder.
        shards: Folder of the training tuples.
        rank: Index of this process.
        world: Number of processes.
        start: Folder of a checkpoint to start from; None starts from random weights. Ignored if a saved state exists.
    """

    def __init__(self, folder: Path, shards: Path, rank: int, world: int, start: Path | None = None) -> None:
        torch.manual_seed(0)
        self.folder, self.rank, self.world = folder, rank, world
        self.shard = load_shards(shards)
        self.held = len(self.shard.photo) // 50
        self.vae = AutoencoderDC.from_pretrained(folder / "vae")
        self.latents = encode_latents(self.vae, self.shard, folder, rank, world)
        self.channel_weight = measure_visibility(self.vae, self.latents["photo"][:64].float())
        self.tokenizer = make_tokenizer()
        self.editor = EditorNetwork(len(self.tokenizer), self.tokenizer.bos_token_id, self.tokenizer.eos_token_id)
        if start:
            load_editor(self.editor, start)
        self.average = {key: value.detach().clone() for key, value in self.editor.state_dict().items()}
        self.optimizers = make_optimizers(self.editor)
        self.cumulative = DDIMScheduler(**SCHEDULER).alphas_cumprod
        self.spent, self.step = 0.0, 0
        self._load()
        self.rng = np.random.default_rng((self.step, rank))
        self.generator = torch.Generator().manual_seed(self.step * world + rank + 1)

    def _load(self) -> None:
        """Resume from the saved state, if there is one."""
        path = self.folder / "editor.pt"
        if path.exists():
            saved = torch.load(path, weights_only=True)
            self.editor.load_state_dict(saved["editor"])
            self.average, self.spent, self.step = saved["average"], saved["spent"], saved["step"]
            for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
                optimizer.load_state_dict(state)

    def save(self) -> None:
        """Save the training state, by way of a temporary file."""
        partial = self.folder / "editor.partial"
        torch.save(
            {
                "editor": self.editor.state_dict(),
                "average": self.average,
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                "spent": self.spent,
                "step": self.step,
            },
            partial,
        )
        partial.rename(self.folder / "editor.pt")

    def conditions(self, index: np.ndarray, drop: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Conditions of some tuples: scene [B,33,h,w], text states [B,T,128] and image embeddings [B,128].

        Args:
            index: [B], indices of the tuples.
            drop: Whether prompts and references are dropped at random, and attributes are shuffled, as in training.
        """
        prompts = [
            make_prompt(self.shard.attributes[i], self.shard.named[i], self.rng if drop else None) for i in index
        ]
        scene = join_scene(self.latents, torch.from_numpy(index))
        picture = to_unit(self.shard.reference[index]) * (
            torch.from_numpy(self.shard.reference_mask[index])[:, None] > 0
        )
        embeds = self.editor.image_encoder(picture).image_embeds
        if drop:
            prompts = ["" if self.rng.random() < TEXT_DROP else prompt for prompt in prompts]
            is_dropped = torch.from_numpy(self.rng.random(len(index)) < REFERENCE_DROP)
            embeds = torch.where(is_dropped[:, None], torch.zeros_like(embeds), embeds)
        text = self.editor.text_encoder(torch.from_numpy(encode(self.tokenizer, prompts))).last_hidden_state
        return scene, text, embeds

    def loss(self, index: np.ndarray, timestep: Tensor, generator: torch.Generator, drop: bool) -> Tensor:
        """Loss of a batch.

        Args:
            index: [B], indices of the tuples.
            timestep: [B], 0..999.
            generator: Random numbers.
            drop: Whether prompts and references are dropped and own guesses are used at random, as in training.
        """
        scene, text, embeds = self.conditions(index, drop)
        clean = self.latents["photo"][torch.from_numpy(index)].float()
        level = self.cumulative[timestep][:, None, None, None]
        noise = torch.randn(clean.shape, generator=generator)
        signal = self.own_guess(clean, noise, scene, text, embeds, generator) if drop else clean
        out = self.editor(level.sqrt() * signal + (1 - level).sqrt() * noise, timestep, scene, text, embeds)
        return self.weighted_loss(out - clean, scene)

    @torch.no_grad()  # type: ignore[untyped-decorator]  # mypy skips torch: the decorator is Any
    def own_guess(
        self, clean: Tensor, noise: Tensor, scene: Tensor, text: Tensor, embeds: Tensor, generator: torch.Generator
    ) -> Tensor:
        """The clean latents [B,16,h,w], a random share OWN_GUESS of them replaced by the editor's prediction from pure noise.

        In later steps of an edit, the signal under the noise is the editor's earlier prediction instead of the true latent.
        An editor that was trained on true latents only takes its own errors for detail and sharpens them into mottling:
        20 steps were 2 dB worse than one.

        Args:
            clean: [B,16,h,w], the true latents.
            noise: [B,16,h,w].
            scene: [B,33,h,w], mask, masked photo and reference.
            text: [B,T,128], hidden states of the prompts.
            embeds: [B,128], the references' image embeddings.
            generator: Random numbers.
        """
        is_own = torch.rand(len(clean), generator=generator) < OWN_GUESS
        if is_own.any():
            first = torch.full((int(is_own.sum()),), len(self.cumulative) - 1)
            clean = clean.clone()
            clean[is_own] = self.editor(noise[is_own], first, scene[is_own], text[is_own], embeds[is_own])
        return clean

    def weighted_loss(self, error: Tensor, scene: Tensor) -> Tensor:
        """Squared plus 0.2 times absolute error, weighted by the mask and by `measure_visibility` of each channel."""
        weight = (0.1 + scene[:, :1]) * self.channel_weight
        return (weight * (error.square() + 0.2 * error.abs())).sum() / weight.expand_as(error).sum()

    def train(self, minutes: float) -> None:
        """Train until `minutes` are spent, those of earlier runs included; rank 0 saves and validates every 3 minutes."""
        begin, last, running = time.monotonic() - self.spent, self.spent, 0.0
        pool = np.arange(self.held, len(self.shard.photo))
        parameters = list(self.editor.parameters())
        while True:
            self.spent = time.monotonic() - begin
            clock = torch.tensor([self.spent])
            if self.world > 1:
                dist.broadcast(clock, 0)  # every process stops at the same step
            progress = float(clock) / (minutes * 60)
            if progress >= 1:
                break
            rate = (
                LEARNING_RATE
                * min(1.0, (self.step + 1) / 150)
                * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * progress)))
            )
            for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
                group["lr"] = rate
            index = self.rng.choice(pool, BATCH // self.world)
            loss = self.loss(index, draw_timesteps(len(index), self.generator), self.generator, drop=True)
            self.editor.zero_grad(set_to_none=True)
            loss.backward()
            self._average_gradients(parameters)
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            for optimizer in self.optimizers:
                optimizer.step()
            self.step, running = self.step + 1, (0.98 * running + 0.02 * loss.item() if running else loss.item())
            decay = min(EMA, (1 + self.step) / (10 + self.step))
            for key, value in self.editor.state_dict().items():
                if value.is_floating_point():
                    self.average[key].lerp_(value, 1 - decay)
                else:
                    self.average[key].copy_(value)
            if self.rank == 0 and self.spent - last > 180:
                last = self.spent
                self.save()
                print(
                    json.dumps(
                        {
                            "stage": "editor",
                            "minutes": round(self.spent / 60, 1),
                            "step": self.step,
                            "samples": self.step * BATCH,
                            "loss": round(running, 4),
                            **self.validate(),
                        }
                    ),
                    flush=True,
                )
        if self.rank == 0:
            self.save()

    def _average_gradients(self, parameters: list[torch.nn.Parameter]) -> None:
        """Replace gradients by their mean over all processes."""
        if self.world == 1:
            return
        flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in parameters])
        dist.all_reduce(flat)
        offset = 0
        for p in parameters:
            p.grad = flat[offset : offset + p.numel()].view_as(p) / self.world
            offset += p.numel()

    @torch.no_grad()  # type: ignore[untyped-decorator]  # mypy skips torch: the decorator is Any
    def validate(self) -> dict[str, float]:
        """Losses on held-out tuples: of the averaged weights from pure noise (t = 999), and of the collage; draws the sheet."""
        training_weights = {key: value.clone() for key, value in self.editor.state_dict().items()}
        self.editor.load_state_dict(self.average)
        index = np.arange(min(self.held, 192))
        loss = self.loss(index, torch.full((len(index),), 999), torch.Generator().manual_seed(1), drop=False)
        self.draw(np.arange(0, self.held, max(1, self.held // 24))[:24])
        self.editor.load_state_dict(training_weights)
        scene = join_scene(self.latents, torch.from_numpy(index))
        base = self.weighted_loss(collage(scene) - self.latents["photo"][: len(index)].float(), scene)
        return {"validation": round(float(loss), 4), "unchanged": round(float(base), 4)}

    def draw(self, index: np.ndarray) -> None:
        """Write sheet.png: reference, truth, decoded truth and edit (8 steps, guidance 1.5) of some tuples."""
        scene, text, embeds = self.conditions(index, drop=False)
        null = self.editor.text_encoder(torch.from_numpy(encode(self.tokenizer, [""]))).last_hidden_state
        edited = decode_pixels(self.vae, sample_latents(self.editor, scene, text, null, embeds, steps=8, guidance=1.5))
        decoded = decode_pixels(self.vae, self.latents["photo"][torch.from_numpy(index)])
        rows = [
            (
                make_prompt(self.shard.attributes[i], self.shard.named[i]) or "keep",
                [self.shard.reference[i], self.shard.photo[i], decoded[n], edited[n]],
            )
            for n, i in enumerate(index)
        ]
        write_contact_sheet(rows, self.folder / "sheet.png", zoom=1, across=4)


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the training state, with the autoencoder")
    parser.add_argument("--shards", type=Path, required=True, help="folder of the training tuples")
    parser.add_argument("--minutes", type=float, default=240, help="training time, that of earlier runs included")
    parser.add_argument("--start", type=Path, default=None, help="checkpoint folder to start from")
    options = parser.parse_args()
    ranks, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    torch.set_num_threads(max(1, (os.cpu_count() or 2) // ranks))
    if ranks > 1:
        dist.init_process_group("gloo")
    Trainer(options.folder, options.shards, rank, ranks, options.start).train(options.minutes)
