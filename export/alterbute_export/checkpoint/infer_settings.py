"""Settings inferred from a published checkpoint's configs: family, scene, resolution and defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from alterbute.solver import SOLVERS

from alterbute_export.checkpoint.ip_adapter_file import AdapterFile
from alterbute_export.errors import CheckpointError

Config = Mapping[str, Any]

INPAINT, INSTRUCT, PLAIN = "inpaint", "instruct", "plain"
PIPELINES: Final[Mapping[str, str]] = {
    "StableDiffusionInpaintPipeline": INPAINT,
    "StableDiffusionXLInpaintPipeline": INPAINT,
    "StableDiffusionInstructPix2PixPipeline": INSTRUCT,
    "StableDiffusionXLInstructPix2PixPipeline": INSTRUCT,
    "StableDiffusionPipeline": PLAIN,
    "StableDiffusionImg2ImgPipeline": PLAIN,
    "StableDiffusionXLPipeline": PLAIN,
    "StableDiffusionXLImg2ImgPipeline": PLAIN,
}
"""Kind of UNet of a pipeline, by `_class_name` of model_index.json."""

# CLIP's normalisation, with which every published image encoder of an IP-Adapter was trained.
_CLIP_MEAN: Final = [0.48145466, 0.4578275, 0.40821073]
_CLIP_STD: Final = [0.26862954, 0.26130258, 0.27577711]
_SOLVERS: Final[Mapping[str, str]] = {
    "DDIMScheduler": "ddim",
    "DDPMScheduler": "ddim",
    "PNDMScheduler": "plms",
    "LMSDiscreteScheduler": "euler",
    "EulerDiscreteScheduler": "euler",
    "EulerAncestralDiscreteScheduler": "euler_a",
    "HeunDiscreteScheduler": "heun",
    "UniPCMultistepScheduler": "unipc",
    "LCMScheduler": "lcm",
}
_LEADING: Final = ("DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "LCMScheduler")


def infer_settings(
    folder: Path,
    *,
    index: Config,
    unet: Config,
    vae: Config,
    image_encoder: Config | None,
    scheduler: Config,
    adapter: AdapterFile | None,
    overrides: Config,
) -> dict[str, Any]:
    """A settings document (keys as in `alterbute.json`) inferred from the configs.

    Args:
        folder: The checkpoint's folder, which gives its name.
        index: Content of model_index.json.
        unet: Config of the UNet.
        vae: Config of the autoencoder.
        image_encoder: Config of the adapter's image encoder, or None.
        scheduler: The scheduler's config.
        adapter: The IP-Adapter file, or None.
        overrides: Content of `alterbute.json`. Its `family`, `scene` and `resolution` replace what would be inferred, and
            are needed where the configs do not determine them.

    Raises:
        CheckpointError: the pipeline class, channel count or sample size is not supported, and `overrides` do not set
            `scene` or `resolution` instead.
    """
    channels = int(vae.get("latent_channels", 4))
    scene = overrides.get("scene")
    if scene is None:
        scene = _infer_scene(index, unet, channels)
    family = overrides.get("family") or _infer_family(scene, adapter)
    resolution = overrides.get("resolution") or _infer_resolution(unet, vae)
    starts_from_noise = bool(scene)
    return {
        "schema_version": 1,
        "name": re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-.") or "checkpoint",
        "family": family,
        "resolution": resolution,
        "scene": scene,
        "latent_mask": "nearest",
        "masked_fill": 0.0,
        "residual": None,
        "input_gain": None,
        "reinject": not starts_from_noise,
        # The paper widens masks by a 5x5 kernel at 512 pixels (arXiv 2601.10714, appendix G).
        "mask": {"dilate": 5, "margin": 2.0},
        # A radius of one latent cell; measured on the demo, whose cells are smaller.
        "detail": {"radius": _latent_factor(vae), "ridge": 3e-4, "threshold": 0.15, "attributes": ["color"]},
        "identity": _infer_identity(family, adapter, image_encoder),
        "grid": _infer_grid(family),
        "time_ids": _infer_time_ids(unet, family, resolution),
        "guidance": _infer_guidance(family, overrides.get("guidance")),
        "defaults": {
            "steps": 20,
            "solver": _infer_solver(scheduler),
            "spacing": _infer_spacing(scheduler),
            "strength": 1.0 if starts_from_noise else 0.75,
        },
        "attributes": None,
    }


def _infer_scene(index: Config, unet: Config, channels: int) -> list[str]:
    pipeline = str(index.get("_class_name"))
    if pipeline not in PIPELINES:
        raise CheckpointError(
            f"model_index.json key `_class_name` is {pipeline!r}",
            " or ".join(PIPELINES),
            "use such a checkpoint, or set `family` and `scene` in alterbute.json",
        )
    inputs = unet.get("in_channels", 4)
    scenes: dict[int, list[str]] = {
        channels: [],
        2 * channels: ["photo"],
        2 * channels + 1: ["mask", "masked_photo"],
    }
    fitting = {INPAINT: (channels, 2 * channels + 1), INSTRUCT: (2 * channels,), PLAIN: (channels,)}[
        PIPELINES[pipeline]
    ]
    if inputs not in fitting:
        raise CheckpointError(
            f"unet/config.json key `in_channels` is {inputs}",
            f"{' or '.join(map(str, fitting))} for {pipeline} with {channels} latent channels",
            "list in alterbute.json what the other channels are: `scene`",
        )
    return scenes[inputs]


def _infer_family(scene: Any, adapter: AdapterFile | None) -> str:
    if isinstance(scene, list) and "photo" in scene:
        return "instruct"
    return "adapter" if adapter else "plain"


def _infer_resolution(unet: Config, vae: Config) -> int:
    size = unet.get("sample_size")
    if isinstance(size, list) and size:
        size = size[0]
    if not isinstance(size, int) or size < 1:
        raise CheckpointError(
            f"unet/config.json key `sample_size` is {unet.get('sample_size')!r}",
            "the side of the latent that the UNet was trained on",
            "set `resolution` in alterbute.json",
        )
    return size * _latent_factor(vae)


def _latent_factor(vae: Config) -> int:
    """Pixels per latent cell, along each side."""
    blocks = vae.get("block_out_channels") or vae.get("encoder_block_out_channels") or [0]
    return int(2 ** (len(blocks) - 1))


def _infer_identity(family: str, adapter: AdapterFile | None, encoder: Config | None) -> dict[str, Any] | None:
    if family != "adapter" or adapter is None or encoder is None:
        return None
    size = int(encoder.get("image_size", 224))
    return {"tokens": adapter.tokens, "size": size, "mean": _CLIP_MEAN, "std": _CLIP_STD}


def _infer_grid(family: str) -> dict[str, Any] | None:
    if family != "grid":
        return None
    return {
        "blank": "zeros",
        "null_identity": "zeros",
        "photo_fill": 0.0,
        "reference_fill": 0.0,
        "mask": "object",
    }


def _infer_time_ids(unet: Config, family: str, resolution: Any) -> list[float] | None:
    """SDXL's original size, crop and target size: a whole picture at the model's resolution; a grid is twice as wide."""
    if unet.get("addition_embed_type") != "text_time" or not isinstance(resolution, int):
        return None
    height, width = float(resolution), float(resolution * (2 if family == "grid" else 1))
    return [height, width, 0.0, 0.0, height, width]


def _infer_guidance(family: str, override: Any) -> dict[str, Any]:
    """InstructPix2Pix: 7.5 and 1.5 (arXiv 2211.09800); grid: 7.5 and 2.0 (arXiv 2601.10714, section 4.1)."""
    forms = ["none", "text"] if family == "plain" else ["none", "text", "identity"]
    identity = {"instruct": 1.5, "grid": 2.0}.get(family, 1.0)
    # diffusers guides an IP-Adapter by text and identity together, which is equal scales here. A checkpoint whose
    # alterbute.json sets guidance was trained otherwise and keeps 1.0.
    if family == "adapter" and override is None:
        identity = 7.5
    return {"forms": forms, "scale": 7.5, "identity": identity, "rescale": 0.0, "interval": [0.0, 1.0]}


def _infer_solver(scheduler: Config) -> str:
    """Name of the solver that corresponds to the checkpoint's scheduler class; DPM-Solver++ 2M where none does."""
    solver = _SOLVERS.get(str(scheduler.get("_class_name")), "dpmpp_2m")
    if scheduler.get("algorithm_type") == "sde-dpmsolver++":
        solver = "dpmpp_2m_sde"
    return solver if solver in SOLVERS else "dpmpp_2m"


def _infer_spacing(scheduler: Config) -> str:
    """Timestep spacing of the scheduler's config, or the default of its class in diffusers."""
    default = "leading" if scheduler.get("_class_name") in _LEADING else "linspace"
    return str(scheduler.get("timestep_spacing") or default)
