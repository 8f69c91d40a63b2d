"""Spec of a sample checkpoint in the layout of this project's demo, which uses settings that no published one has."""

from __future__ import annotations

from typing import Any, Final

Config = dict[str, Any]

VOCABULARY: Final[dict[str, list[str]]] = {
    "color": ["red", "green", "blue"],
    "material": ["metal", "wood"],
    "texture": ["plain", "striped"],
}
"""Words that the demo's prompts may contain, by attribute."""
_SCENE: Final = ("mask", "masked_photo", "reference")


def make_demo_fields(size: str) -> Config:
    """Fields of the demo's `SampleSpec`, by size ("tiny" or "published", the demo's own size).

    Its scene has three pictures, its residual is "collage", its text is pooled into the time embedding, and its latent cells
    have 4x4 pixels.
    """
    is_tiny = size == "tiny"
    channels = 4 if is_tiny else 16
    dim, resolution, tokens = (32, 32, 16) if is_tiny else (128, 64, 32)
    vae = [8, 8, 16] if is_tiny else [32, 32, 64]
    widths = [16, 32] if is_tiny else [64, 96, 128]
    image = 16 if is_tiny else 64
    tower = {"hidden_size": dim, "intermediate_size": 2 * dim, "num_hidden_layers": 2, "num_attention_heads": 4}
    downs = ["DownBlock2D"] + ["CrossAttnDownBlock2D"] * (len(widths) - 1)
    return {
        "name": f"{size}-demo",
        "pipeline": "AlterbutePipeline",
        "parts": {
            "unet": {
                "sample_size": resolution // 4,
                "in_channels": 3 * channels + 1,
                "out_channels": channels,
                "block_out_channels": widths,
                "layers_per_block": 1,
                "down_block_types": downs,
                "up_block_types": [name.replace("Down", "Up") for name in reversed(downs)],
                "cross_attention_dim": dim,
                "attention_head_dim": 4,
                "norm_num_groups": min(16, widths[0] // 2),
                "addition_embed_type": "text",
                "addition_embed_type_num_heads": 4,
            },
            "vae": {
                "_class_name": "AutoencoderDC",
                "latent_channels": channels,
                "encoder_block_out_channels": vae,
                "decoder_block_out_channels": vae,
                "encoder_layers_per_block": [0, 1, 1],
                "decoder_layers_per_block": [0, 2, 3],
                "encoder_qkv_multiscales": [[]] * 3,
                "decoder_qkv_multiscales": [[]] * 3,
                "encoder_out_shortcut": False,
                "decoder_in_shortcut": False,
                "scaling_factor": 1.0,
            },
            "text_encoder": {
                **tower,
                "vocab_size": 0,
                "max_position_embeddings": tokens,
                "bos_token_id": 0,
                "eos_token_id": 2,
            },
            "image_encoder": {**tower, "image_size": image, "patch_size": 8, "projection_dim": dim},
        },
        "adapter": ("ip_adapter.safetensors", "base"),
        "scheduler": {
            "_class_name": "DDIMScheduler",
            "num_train_timesteps": 1000,
            "beta_schedule": "scaled_linear",
            "beta_start": 0.00085,
            "beta_end": 0.03,
            "clip_sample": False,
            "set_alpha_to_one": True,
            "timestep_spacing": "trailing",
            "prediction_type": "sample",
            "rescale_betas_zero_snr": False,
        },
        "tokens": tokens,
        "entries": 0,
        "pads": (),
        "settings": {
            "schema_version": 1,
            "name": f"{size}-demo",
            "family": "adapter",
            "resolution": resolution,
            "scene": list(_SCENE),
            "latent_mask": "area",
            "masked_fill": 0.0,
            "residual": "collage",
            "input_gain": "signal",
            "mask": {"dilate": 3, "margin": 1.4},
            "guidance": {"scale": 1.5, "forms": ["none", "text"]},
            "defaults": {"steps": 20, "solver": "dpmpp_2m", "spacing": "trailing", "strength": 1.0},
            "attributes": VOCABULARY,
        },
    }
