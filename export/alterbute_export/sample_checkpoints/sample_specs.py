"""Specs of all kinds of sample checkpoint: architecture, family, adapter and size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from alterbute_export.sample_checkpoints import configs, demo
from alterbute_export.sample_checkpoints.configs import Config

SIZES: Final = ("tiny", "published")


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSpec:
    """Everything that defines a sample checkpoint, except for its weights.

    Args:
        name: Its name, `<size>-<kind>`.
        pipeline: `_class_name` of model_index.json.
        parts: Config of each part, by folder.
        adapter: File name and kind ("base", "plus") of the IP-Adapter, or None.
        scheduler: The scheduler's config.
        tokens: Tokens of the longest prompt.
        entries: Size of the tokenizer's vocabulary; 0 for the smallest.
        pads: Padding token of each tokenizer, which is written as `vocab.json` and `merges.txt`; empty for one tokenizer
            that is written as `tokenizer.json`.
        settings: Content of alterbute.json, or None for a checkpoint without that file.
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
    """A kind of published checkpoint; `scene` counts scene channels, `encoder` is a key of `configs.IMAGES`."""

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
"""Every kind of sample checkpoint; `demo` has the layout of this project's demo."""


def make_sample_spec(kind: str, size: str = "tiny") -> SampleSpec:
    """The spec of a sample checkpoint.

    Args:
        kind: One of KINDS.
        size: One of SIZES; "published" is the size of published checkpoints of this kind.
    """
    if kind == "demo":
        return SampleSpec(**demo.make_demo_fields(size))
    definition = _KINDS[kind]
    is_tiny = size == "tiny"
    window: Config = {"vocab_size": 0, "max_position_embeddings": 16 if is_tiny else 77}
    texts = [{**config, **window} for config in configs.TEXTS[definition.architecture, size]]
    parts: dict[str, Config] = {
        "unet": _unet(definition, size),
        "vae": _vae(definition.architecture, size),
        **dict(zip(("text_encoder", "text_encoder_2"), texts, strict=False)),
    }
    if definition.adapter:
        parts["image_encoder"] = configs.IMAGES[definition.encoder, size]
    return SampleSpec(
        name=f"{size}-{kind}",
        pipeline=definition.pipeline,
        parts=parts,
        adapter=definition.adapter,
        scheduler=configs.SCHEDULERS[definition.architecture],
        tokens=window["max_position_embeddings"],
        entries=0 if is_tiny else 49408,
        pads=configs.PADS[definition.architecture],
        # There is no published layout of family `grid` from which the reader could infer it.
        settings={"family": "grid", "resolution": 32 if is_tiny else 512} if definition.is_grid else None,
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
