"""A whole edit by diffusers' own inpainting pipeline with IP-Adapter, in eager fp32."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from alterbute.images.photo import Bytes
from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline
from PIL import Image
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from benchmarks.peers.contender import TimedEdit
from benchmarks.peers.inputs import GUIDANCE, IDENTITY_SCALE, PROMPT, EditInputs

_GREY: Final = 0.5
"""Background of the reference, 0..1; as in the bundle's identity graph."""


class _MeanPipeline(StableDiffusionInpaintPipeline):  # type: ignore[misc]  # mypy skips diffusers: the base is Any
    """diffusers' pipeline with the mean of the autoencoder's posterior instead of a sample, as in the other contenders."""

    def _encode_vae_image(self, image: torch.Tensor, generator: Any) -> torch.Tensor:
        latent: torch.Tensor = self.vae.config.scaling_factor * self.vae.encode(image).latent_dist.mode()
        return latent


class DiffusersEdit:
    """diffusers' inpainting pipeline, timed by hooks at its first UNet call and at its decoder call."""

    def __init__(self, checkpoint: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        pipeline = _MeanPipeline.from_pretrained(
            checkpoint, safety_checker=None, local_files_only=True, torch_dtype=torch.float32
        )
        pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
        pipeline.set_progress_bar_config(disable=True)
        (adapter,) = checkpoint.glob("ip-adapter*.safetensors")
        pipeline.load_ip_adapter(str(checkpoint), subfolder="", weight_name=adapter.name, local_files_only=True)
        pipeline.set_ip_adapter_scale(IDENTITY_SCALE)
        self._pipeline = pipeline
        self._entered: dict[str, float] = {}
        self._latent: Any = None
        pipeline.unet.register_forward_pre_hook(self._enter_steps)
        decode = pipeline.vae.decode

        def timed_decode(*arguments: Any, **named: Any) -> Any:
            self._entered["decode"] = time.perf_counter()
            return decode(*arguments, **named)

        pipeline.vae.decode = timed_decode

    def edit(self, inputs: EditInputs, steps: int) -> TimedEdit:
        """Edit one image with the pipeline, and time the edit and its parts.

        Raises:
            SystemExit: the pipeline's token ids differ from the bundle's.
        """
        self._check_ids(inputs)
        self._entered.clear()
        start = time.perf_counter()
        with torch.inference_mode():
            picture = self._pipeline(
                prompt=PROMPT,
                negative_prompt="",
                image=Image.fromarray(inputs.photo),
                mask_image=Image.fromarray(inputs.painted),
                ip_adapter_image=_normalise_reference(inputs.identity_pixels, inputs.identity_mask),
                latents=torch.from_numpy(inputs.noise)[None],
                height=inputs.photo.shape[0],
                width=inputs.photo.shape[1],
                strength=1.0,
                guidance_scale=GUIDANCE,
                num_inference_steps=steps,
                callback_on_step_end=self._keep_latent,
            ).images[0]
        end = time.perf_counter()
        seconds = {
            "whole": end - start,
            "encode": self._entered["steps"] - start,
            "steps": self._entered["decode"] - self._entered["steps"],
            "decode": end - self._entered["decode"],
        }
        pixels = np.asarray(picture)
        return TimedEdit(
            seconds=seconds,
            latent=self._latent[0].numpy(),
            picture=pixels,
            alpha=np.full(pixels.shape[:2], 255, np.uint8),
        )

    def _enter_steps(self, *_: Any) -> None:
        self._entered.setdefault("steps", time.perf_counter())

    def _keep_latent(self, pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        self._latent = tensors["latents"]
        return tensors

    def _check_ids(self, inputs: EditInputs) -> None:
        length = inputs.ids.shape[1]
        ids = self._pipeline.tokenizer(["", PROMPT], padding="max_length", max_length=length, truncation=True).input_ids
        if not np.array_equal(ids, inputs.ids):
            raise SystemExit(
                f"diffusers tokenizes {PROMPT!r} as {ids[1]}; expected {inputs.ids[1].tolist()}, the bundle's ids"
            )


def _normalise_reference(pixels: Bytes, mask: Bytes) -> torch.Tensor:
    """The reference [1,3,s,s] f32 on a grey background, normalised as by CLIP's image processor."""
    inside = torch.from_numpy(mask)[None, None].float() / 255
    picture = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    picture = inside * picture + (1 - inside) * _GREY
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    return (picture - mean) / std
