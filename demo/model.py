"""The demo's networks in diffusers' and transformers' classes: a small latent-diffusion editor of family `adapter`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderDC, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from demo.rendering.render import ATTRIBUTES

SIZE, FACTOR, LATENTS = 64, 4, 16  # window side in pixels, pixels per latent cell, latent channels
TOKENS, WIDTH, IDENTITY_TOKENS = 32, 128, 4  # of the prompt, of text states and embeddings, of the identity
GRID = SIZE // FACTOR

# ᾱ is 6e-6 at the last timestep, so that steps start from pure noise without the special cases of zero terminal SNR.
SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.03,
    "prediction_type": "sample",
    "clip_sample": False,
    "set_alpha_to_one": True,
    "timestep_spacing": "trailing",
    "rescale_betas_zero_snr": False,
}


def make_vae() -> AutoencoderDC:
    """Space-to-channel autoencoder (DC-AE) with random weights.

    It has no wide convolutions at full resolution, and its linear path can represent a PCA.
    """
    return AutoencoderDC(
        latent_channels=LATENTS,
        encoder_block_out_channels=(32, 32, 64),
        decoder_block_out_channels=(32, 32, 64),
        encoder_layers_per_block=(0, 1, 1),
        decoder_layers_per_block=(0, 2, 3),
        encoder_qkv_multiscales=((), (), ()),
        decoder_qkv_multiscales=((), (), ()),
        encoder_out_shortcut=False,
        decoder_in_shortcut=False,
        scaling_factor=1.0,
    )


def make_unet() -> UNet2DConditionModel:
    """UNet with random weights.

    Input channels are latent, mask, masked photo and aligned reference; pooled text is added to the time embedding.
    """
    return UNet2DConditionModel(
        sample_size=GRID,
        in_channels=LATENTS + 1 + 2 * LATENTS,
        out_channels=LATENTS,
        block_out_channels=(64, 96, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        resnet_time_scale_shift="scale_shift",  # text scales features, so that it can switch them off
    )


def make_text_encoder(vocabulary: int, start: int, end: int) -> CLIPTextModel:
    """A small CLIP text encoder with random weights.

    Args:
        vocabulary: Number of tokens.
        start: Id of the start token.
        end: Id of the end token.
    """
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            projection_dim=WIDTH,
            bos_token_id=start,
            eos_token_id=end,
            pad_token_id=end,
        )
    )


def make_image_encoder() -> CLIPVisionModelWithProjection:
    """A small CLIP image encoder with random weights."""
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=96,
            intermediate_size=192,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=SIZE,
            patch_size=8,
            projection_dim=WIDTH,
        )
    )


def attach_adapter(unet: UNet2DConditionModel) -> None:
    """Add an IP-Adapter (base projector); the image branch of each cross-attention starts from its text branch."""
    state: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    state["image_proj"] = {
        "proj.weight": torch.randn(IDENTITY_TOKENS * WIDTH, WIDTH) * 0.05,
        "proj.bias": torch.zeros(IDENTITY_TOKENS * WIDTH),
        "norm.weight": torch.ones(WIDTH),
        "norm.bias": torch.zeros(WIDTH),
    }
    for index, name in enumerate(n for n in unet.attn_processors if "attn2" in n):
        attention = unet.get_submodule(name.removesuffix(".processor"))
        state["ip_adapter"][f"{2 * index + 1}.to_k_ip.weight"] = attention.to_k.weight.detach().clone()
        state["ip_adapter"][f"{2 * index + 1}.to_v_ip.weight"] = attention.to_v.weight.detach().clone() * 0.1
    unet._load_ip_adapter_weights([state])


def adapter_state(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    """Weights of the adapter by flat key, in the layout of published IP-Adapters."""
    projection = unet.encoder_hid_proj.image_projection_layers[0]
    state = {
        "image_proj.proj.weight": projection.image_embeds.weight,
        "image_proj.proj.bias": projection.image_embeds.bias,
        "image_proj.norm.weight": projection.norm.weight,
        "image_proj.norm.bias": projection.norm.bias,
    }
    for index, processor in enumerate(p for n, p in unet.attn_processors.items() if "attn2" in n):
        state[f"ip_adapter.{2 * index + 1}.to_k_ip.weight"] = processor.to_k_ip[0].weight
        state[f"ip_adapter.{2 * index + 1}.to_v_ip.weight"] = processor.to_v_ip[0].weight
    return {key: value.detach().clone() for key, value in state.items()}


class EditorNetwork(nn.Module):  # type: ignore[misc]  # mypy skips torch: nn.Module is Any
    """The networks that are trained together: UNet with adapter, text encoder and image encoder."""

    def __init__(self, vocabulary: int, start: int, end: int) -> None:
        super().__init__()
        self.unet, self.text_encoder, self.image_encoder = (
            make_unet(),
            make_text_encoder(vocabulary, start, end),
            make_image_encoder(),
        )
        attach_adapter(self.unet)
        self.register_buffer("signal", DDIMScheduler(**SCHEDULER).alphas_cumprod.sqrt(), persistent=False)
        nn.init.zeros_(
            self.unet.conv_out.weight
        )  # the residual starts at zero, so that the untrained editor returns the collage
        nn.init.zeros_(self.unet.conv_out.bias)

    def forward(self, noisy: Tensor, timestep: Tensor, scene: Tensor, text: Tensor, embeds: Tensor) -> Tensor:
        """Predict the clean latent [B,16,h,w].

        The UNet takes the noisy latent times its signal scale sqrt(ᾱ), so that pure noise, which holds no information,
        is suppressed and cannot mottle the edit.

        Args:
            noisy: [B,16,h,w], latent at the noise level of `timestep`.
            timestep: [B], 0..999.
            scene: [B,33,h,w], mask, masked photo and reference.
            text: [B,T,128], hidden states of the prompt.
            embeds: [B,128], the reference's image embedding.
        """
        out = self.unet(
            torch.cat([noisy * self.signal[timestep][:, None, None, None], scene], 1),
            timestep,
            encoder_hidden_states=text,
            added_cond_kwargs={"image_embeds": [embeds[:, None]]},
            return_dict=False,
        )[0]
        return out + collage(scene)


def collage(scene: Tensor) -> Tensor:
    """Latent [B,16,h,w] of the reference inside the mask and of the photo outside, to which the residual is added."""
    mask, photo, reference = scene[:, :1], scene[:, 1 : 1 + LATENTS], scene[:, 1 + LATENTS :]
    return mask * reference + (1 - mask) * photo


def cast_to_half(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Cast the floating-point tensors to fp16."""
    return {
        key: value.to(torch.float16).contiguous() if value.is_floating_point() else value
        for key, value in state.items()
    }


def save_checkpoint(
    folder: Path, editor: EditorNetwork, vae: AutoencoderDC, tokenizer: Any, extra: dict[str, Any]
) -> None:
    """Write a checkpoint in diffusers' layout, with weights in fp16.

    Args:
        folder: The checkpoint's folder, which must exist.
        editor: The trained networks.
        vae: The trained autoencoder.
        tokenizer: The tokenizer.
        extra: Content of alterbute.json, from `make_settings`.
    """
    plain_unet = make_unet()  # without the adapter
    keys = plain_unet.state_dict().keys()
    plain_unet.load_state_dict({key: value for key, value in editor.unet.state_dict().items() if key in keys})
    for name, module in (
        ("unet", plain_unet),
        ("vae", vae),
        ("text_encoder", editor.text_encoder),
        ("image_encoder", editor.image_encoder),
    ):
        copy = (
            type(module)(module.config)
            if not hasattr(module, "from_config")
            else type(module).from_config(module.config)
        )
        copy.load_state_dict(module.state_dict())
        copy.to(torch.float16).save_pretrained(folder / name, safe_serialization=True)
    tokenizer.save_pretrained(folder / "tokenizer")
    DDIMScheduler(**SCHEDULER).save_pretrained(folder / "scheduler")
    save_file(cast_to_half(adapter_state(editor.unet)), folder / "ip_adapter.safetensors")
    index = {
        "_class_name": "StableDiffusionInpaintPipeline",
        "_diffusers_version": "0.42.1",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderDC"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    (folder / "alterbute.json").write_text(json.dumps(extra, indent=2) + "\n")


def make_settings(guidance: float, attributes: dict[str, tuple[str, ...]] = ATTRIBUTES) -> dict[str, Any]:
    """Content of alterbute.json: settings of an editor that diffusers' layout does not have.

    Args:
        guidance: Default scale of text guidance.
        attributes: Values of each attribute that prompts may name.
    """
    return {
        "schema_version": 1,
        "name": "alterbute-demo",
        "family": "adapter",
        "resolution": SIZE,
        "scene": ["mask", "masked_photo", "reference"],
        "latent_mask": "area",
        "masked_fill": 0.0,
        "residual": "collage",
        "input_gain": "signal",
        "mask": {"dilate": 3, "margin": 1.4},
        "identity": {"tokens": IDENTITY_TOKENS, "size": SIZE, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
        "guidance": {"forms": ["none", "text"], "scale": guidance},
        "defaults": {"steps": 4, "solver": "dpmpp_2m", "spacing": "trailing", "strength": 1.0},
        "attributes": {name: list(values) for name, values in attributes.items()},
    }


def load_editor(editor: EditorNetwork, folder: Path) -> None:
    """Load an editor's weights from a checkpoint folder that `save_checkpoint` wrote."""
    adapter = load_state(folder / "ip_adapter.safetensors")
    state = {f"unet.{k}": v for k, v in load_state(folder / "unet" / "diffusion_pytorch_model.safetensors").items()}
    for part in ("text_encoder", "image_encoder"):
        state |= {f"{part}.{key}": value for key, value in load_state(folder / part / "model.safetensors").items()}
    image = "unet.encoder_hid_proj.image_projection_layers.0"
    for ours, theirs in (("image_embeds", "proj"), ("norm", "norm")):
        for kind in ("weight", "bias"):
            state[f"{image}.{ours}.{kind}"] = adapter[f"image_proj.{theirs}.{kind}"]
    for index, name in enumerate(n for n in editor.unet.attn_processors if "attn2" in n):
        for kind in "kv":
            state[f"unet.{name}.to_{kind}_ip.0.weight"] = adapter[f"ip_adapter.{2 * index + 1}.to_{kind}_ip.weight"]
    editor.load_state_dict(state)


def load_state(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file by name; floating-point tensors are cast to fp32."""
    return {key: value.float() if value.is_floating_point() else value for key, value in load_file(path).items()}
