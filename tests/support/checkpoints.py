"""Tiny checkpoints with random weights, saved in the layout that the exporter reads.

They have every part of the real thing (UNet, VAE, text and image encoders, IP-Adapter, CLIP tokenizer)
at a size that is made and exported in seconds. What they paint is noise; what they prove is shapes and numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderDC, AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, CLIPVisionConfig, CLIPVisionModelWithProjection

IDENTITY_TOKENS: Final = 4
VOCABULARY: Final[dict[str, list[str]]] = {
    "color": ["red", "green", "blue"],
    "material": ["metal", "wood"],
    "texture": ["plain", "striped"],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What differs between the checkpoint shapes that tests need."""

    name: str
    resolution: int
    latent_channels: int
    vae_channels: tuple[int, ...]
    unet_channels: tuple[int, ...]
    unet_blocks: tuple[str, ...]
    dim: int
    scene: tuple[str, ...]
    latent_mask: str
    residual: str | None
    input_gain: str | None
    prediction_type: str
    scaling_factor: float
    pooled_text: bool
    attributes: dict[str, list[str]] | None
    text_tokens: int = 16
    identity_size: int = 16
    dtype: torch.dtype = torch.float16


DEMO: Final = Shape(
    name="tiny-demo",
    resolution=32,
    latent_channels=4,
    vae_channels=(8, 8, 16),
    unet_channels=(16, 32),
    unet_blocks=("DownBlock2D", "CrossAttnDownBlock2D"),
    dim=32,
    scene=("mask", "masked_photo", "reference"),
    latent_mask="area",
    residual="collage",
    input_gain="signal",
    prediction_type="sample",
    scaling_factor=1.0,
    pooled_text=True,
    attributes=VOCABULARY,
)
"""The demo's layout: a third scene picture, collage residual, text pooled into the time embedding, factor 4."""

SD15: Final = Shape(
    name="tiny-sd15-inpainting",
    resolution=64,
    latent_channels=4,
    vae_channels=(8, 8, 16, 16),
    unet_channels=(16, 32),
    unet_blocks=("CrossAttnDownBlock2D", "DownBlock2D"),
    dim=24,
    scene=("mask", "masked_photo"),
    latent_mask="nearest",
    residual=None,
    input_gain=None,
    prediction_type="epsilon",
    scaling_factor=0.18215,
    pooled_text=False,
    attributes=None,
)
"""SD 1.5 inpainting in small: 9 channels, epsilon, factor 8, open vocabulary."""

FULL_DEMO: Final = replace(
    DEMO,
    name="demo-size",
    resolution=64,
    latent_channels=16,
    vae_channels=(32, 32, 64),
    unet_channels=(64, 96, 128),
    unet_blocks=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    dim=128,
    text_tokens=32,
    identity_size=64,
)
"""The demo checkpoint's own sizes, with random weights: for measuring times and sizes before it is trained."""


def make_checkpoint(folder: Path, shape: Shape = DEMO, *, seed: int = 0) -> Path:
    """Write a random checkpoint of `shape` into `folder` and return the folder."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(shape.text_tokens)
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=shape.dim,
            intermediate_size=2 * shape.dim,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=shape.text_tokens,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    image_encoder = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            image_size=shape.identity_size,
            patch_size=8,
            hidden_size=shape.dim,
            intermediate_size=2 * shape.dim,
            num_hidden_layers=2,
            num_attention_heads=4,
            projection_dim=shape.dim,
        )
    )
    unet, vae, scheduler = make_unet(shape), make_vae(shape), make_scheduler(shape)
    parts = {"unet": unet, "vae": vae, "text_encoder": text_encoder, "image_encoder": image_encoder}
    for name, module in parts.items():
        spread_weights(module)
        module.to(shape.dtype).save_pretrained(folder / name, safe_serialization=True)
    tokenizer.save_pretrained(folder / "tokenizer")
    scheduler.save_pretrained(folder / "scheduler")
    save_file(make_ip_adapter(unet, shape), str(folder / "ip_adapter.safetensors"))
    write_json(folder / "model_index.json", make_model_index(type(vae).__name__))
    write_json(folder / "alterbute.json", make_settings(shape))
    return folder


def make_tokenizer(tokens: int) -> CLIPTokenizer:
    """A CLIP byte-pair tokenizer that knows single letters and a few whole words."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    symbols = letters + [letter + "</w>" for letter in letters]
    merges = [("r", "e"), ("re", "d</w>"), ("b", "l"), ("bl", "u"), ("blu", "e</w>")]
    symbols += [left + right for left, right in merges]
    symbols += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {symbol: index for index, symbol in enumerate(symbols)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=tokens)


def make_unet(shape: Shape) -> UNet2DConditionModel:
    """The UNet of `shape`, with as many scene channels as its scene pictures need."""
    scene = sum(1 if name == "mask" else shape.latent_channels for name in shape.scene)
    pooled: dict[str, Any] = {}
    if shape.pooled_text:
        pooled = {"addition_embed_type": "text", "addition_embed_type_num_heads": 4}
    return UNet2DConditionModel(
        sample_size=shape.resolution // 2 ** (len(shape.vae_channels) - 1),
        in_channels=shape.latent_channels + scene,
        out_channels=shape.latent_channels,
        block_out_channels=shape.unet_channels,
        layers_per_block=1,
        down_block_types=shape.unet_blocks,
        up_block_types=tuple(name.replace("Down", "Up") for name in reversed(shape.unet_blocks)),
        cross_attention_dim=shape.dim,
        attention_head_dim=4,
        norm_num_groups=min(16, shape.unet_channels[0] // 2),
        **pooled,
    )


def make_vae(shape: Shape) -> AutoencoderDC | AutoencoderKL:
    """The autoencoder of `shape`: the demo's space-to-channel kind, or SD's, with attention in the middle."""
    blocks = len(shape.vae_channels)
    if shape.residual:
        return AutoencoderDC(
            latent_channels=shape.latent_channels,
            encoder_block_out_channels=shape.vae_channels,
            decoder_block_out_channels=shape.vae_channels,
            encoder_layers_per_block=(0, 1, 1),
            decoder_layers_per_block=(0, 2, 3),
            encoder_qkv_multiscales=((),) * blocks,
            decoder_qkv_multiscales=((),) * blocks,
            encoder_out_shortcut=False,
            decoder_in_shortcut=False,
            scaling_factor=shape.scaling_factor,
        )
    return AutoencoderKL(
        block_out_channels=shape.vae_channels,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        layers_per_block=1,
        latent_channels=shape.latent_channels,
        norm_num_groups=4,
        scaling_factor=shape.scaling_factor,
        sample_size=shape.resolution,
    )


def make_scheduler(shape: Shape) -> DDIMScheduler:
    """The scheduler config of the demo, with the shape's prediction type."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.03 if shape.residual else 0.012,
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
        prediction_type=shape.prediction_type,
        rescale_betas_zero_snr=False,
    )


def make_ip_adapter(unet: UNet2DConditionModel, shape: Shape) -> dict[str, torch.Tensor]:
    """IP-Adapter weights under their published names: `image_proj.*` and `ip_adapter.<odd>.to_{k,v}_ip.weight`."""
    weights = {
        "image_proj.proj.weight": torch.randn(IDENTITY_TOKENS * shape.dim, shape.dim) * shape.dim**-0.5,
        "image_proj.proj.bias": torch.randn(IDENTITY_TOKENS * shape.dim) * 0.2,
        "image_proj.norm.weight": 1 + 0.2 * torch.randn(shape.dim),
        "image_proj.norm.bias": 0.2 * torch.randn(shape.dim),
    }
    for index, attention in enumerate(cross_attentions(unet)):
        for kind in "kv":
            width = attention.to_k.weight.shape[0]
            name = f"ip_adapter.{2 * index + 1}.to_{kind}_ip.weight"
            weights[name] = torch.randn(width, shape.dim) * shape.dim**-0.5
    return {name: tensor.to(shape.dtype).contiguous() for name, tensor in weights.items()}


def cross_attentions(unet: UNet2DConditionModel) -> Iterator[Any]:
    """The cross-attention modules in the order in which the published files number them."""
    for name in unet.attn_processors:
        if ".attn2." in name:
            yield unet.get_submodule(name.removesuffix(".processor"))


def spread_weights(module: torch.nn.Module) -> None:
    """Move norms and biases off their neutral start, so that a wrong one shows in the numbers."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * (0.1 if name.endswith("bias") else 0.2))


def make_model_index(vae: str) -> dict[str, Any]:
    """`model_index.json`, naming the class of each part as diffusers does."""
    return {
        "_class_name": "AlterbutePipeline",
        "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", vae],
    }


def make_settings(shape: Shape) -> dict[str, Any]:
    """`alterbute.json`: what diffusers' layout leaves open."""
    return {
        "schema_version": 1,
        "name": shape.name,
        "family": "adapter",
        "resolution": shape.resolution,
        "scene": list(shape.scene),
        "latent_mask": shape.latent_mask,
        "masked_fill": 0.0,
        "residual": shape.residual,
        "input_gain": shape.input_gain,
        "mask": {"dilate": 3, "feather": 3, "margin": 1.4},
        "identity": {
            "tokens": IDENTITY_TOKENS,
            "size": shape.identity_size,
            "mean": [0.48145466, 0.4578275, 0.40821073],
            "std": [0.26862954, 0.26130258, 0.27577711],
        },
        "guidance": {"scale": 1.5},
        "defaults": {"steps": 20, "solver": "dpmpp_2m", "spacing": "trailing", "strength": 1.0},
        "attributes": shape.attributes,
    }


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
