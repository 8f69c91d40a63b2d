"""Which checkpoints can be made: an architecture, a family, an adapter and a size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from alterbute_export.sample_checkpoints import configs, demo
from alterbute_export.sample_checkpoints.configs import Config

SIZES: Final = ("tiny", "published")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Everything of a checkpoint but its weights.

    Args:
        name: What it is called.
        pipeline: `_class_name` of model_index.json.
        parts: Config of each part, by folder.
        adapter: File name and kind ("base", "plus") of the IP-Adapter, or None.
        scheduler: The scheduler's config.
        tokens: The text encoders' window.
        entries: Size of the tokenizer's vocabulary; 0 for the smallest.
        pads: The word that fills a prompt, by tokenizer, for the published `vocab.json` and `merges.txt`; empty for one
            `tokenizer.json`.
        settings: Content of alterbute.json, or None for a checkpoint that does without.
    """

    name: str
    pipeline: str
    parts: Mapping[str, Config]
    adapter: tuple[str, str] | None
    scheduler: Config
    tokens: int
    entries: int
    pads: tuple[str, ...]
    settings: Config | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    architecture: str
    pipeline: str
    scene: int
    adapter: tuple[str, str] | None = None
    encoder: str = "vit-h"
    is_grid: bool = False


_SD, _XL = "StableDiffusion", "StableDiffusionXL"
_INPAINT, _INSTRUCT = "InpaintPipeline", "InstructPix2PixPipeline"
_KINDS: Final[dict[str, _Kind]] = {
    "sd15": _Kind(architecture="sd15", pipeline=f"{_SD}Pipeline", scene=0),
    "sd15-inpaint": _Kind(architecture="sd15", pipeline=_SD + _INPAINT, scene=5),
    "sd15-adapter": _Kind(
        architecture="sd15", pipeline=_SD + _INPAINT, scene=5, adapter=("ip-adapter_sd15.safetensors", "base")
    ),
    "sd15-adapter-plus": _Kind(
        architecture="sd15", pipeline=_SD + _INPAINT, scene=5, adapter=("ip-adapter-plus_sd15.safetensors", "plus")
    ),
    "sd15-instruct": _Kind(architecture="sd15", pipeline=_SD + _INSTRUCT, scene=4),
    "sd21-adapter": _Kind(
        architecture="sd21", pipeline=_SD + _INPAINT, scene=5, adapter=("ip-adapter_sd21.safetensors", "base")
    ),
    "sdxl": _Kind(architecture="sdxl", pipeline=f"{_XL}Pipeline", scene=0),
    "sdxl-inpaint": _Kind(architecture="sdxl", pipeline=_XL + _INPAINT, scene=5),
    "sdxl-adapter": _Kind(
        architecture="sdxl",
        pipeline=_XL + _INPAINT,
        scene=5,
        adapter=("ip-adapter_sdxl.safetensors", "base"),
        encoder="bigg",
    ),
    "sdxl-adapter-vit-h": _Kind(
        architecture="sdxl", pipeline=_XL + _INPAINT, scene=5, adapter=("ip-adapter_sdxl_vit-h.safetensors", "base")
    ),
    "sdxl-adapter-plus": _Kind(
        architecture="sdxl",
        pipeline=_XL + _INPAINT,
        scene=5,
        adapter=("ip-adapter-plus_sdxl_vit-h.safetensors", "plus"),
    ),
    "sdxl-instruct": _Kind(architecture="sdxl", pipeline=_XL + _INSTRUCT, scene=4),
    "sd15-grid": _Kind(architecture="sd15", pipeline=_SD + _INPAINT, scene=5, is_grid=True),
    "sdxl-grid": _Kind(architecture="sdxl", pipeline=_XL + _INPAINT, scene=5, is_grid=True),
}
KINDS: Final = (*_KINDS, "demo")
"""Every kind of checkpoint that can be made; `demo` has the layout of this project's own."""


def sample_shape(kind: str, size: str = "tiny") -> Shape:
    """The shape of a kind of checkpoint.

    Args:
        kind: One of KINDS.
        size: One of SIZES; "published" is the size that such checkpoints are published in.
    """
    if kind == "demo":
        return Shape(**demo.demo_shape(size))
    chosen = _KINDS[kind]
    is_tiny = size == "tiny"
    window: Config = {"vocab_size": 0, "max_position_embeddings": 16 if is_tiny else 77}
    texts = [{**config, **window} for config in configs.TEXTS[chosen.architecture, size]]
    parts: dict[str, Config] = {
        "unet": _unet(chosen, size),
        "vae": _vae(chosen.architecture, size),
        **dict(zip(("text_encoder", "text_encoder_2"), texts, strict=False)),
    }
    if chosen.adapter:
        parts["image_encoder"] = configs.IMAGES[chosen.encoder, size]
    return Shape(
        name=f"{size}-{kind}",
        pipeline=chosen.pipeline,
        parts=parts,
        adapter=chosen.adapter,
        scheduler=configs.SCHEDULERS[chosen.architecture],
        tokens=window["max_position_embeddings"],
        entries=0 if is_tiny else 49408,
        pads=configs.PADS[chosen.architecture],
        # No grid checkpoint is published, so that nothing in the layout could tell one.
        settings={"family": "grid", "resolution": 32 if is_tiny else 512} if chosen.is_grid else None,
    )


def _unet(kind: _Kind, size: str) -> Config:
    small: dict[str, Any] = configs.TINY_UNET if size == "tiny" else {}
    return {**small, **configs.UNETS[kind.architecture, size], "in_channels": 4 + kind.scene, "out_channels": 4}


def _vae(architecture: str, size: str) -> Config:
    config = configs.VAES[size]
    blocks = len(config["block_out_channels"])
    return {
        **config,
        "down_block_types": ["DownEncoderBlock2D"] * blocks,
        "up_block_types": ["UpDecoderBlock2D"] * blocks,
        "latent_channels": 4,
        "scaling_factor": configs.VAE_SCALES[architecture],
        **({"force_upcast": True} if architecture == "sdxl" else {}),
    }
