"""Configs of the parts of SD 1.5, SD 2.1 and SDXL, as published and for tiny models of the same architectures."""

from __future__ import annotations

from typing import Any, Final

Config = dict[str, Any]

UNETS: Final[dict[tuple[str, str], Config]] = {
    ("sd15", "published"): {
        "sample_size": 64,
        "block_out_channels": [320, 640, 1280, 1280],
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
    },
    ("sd21", "published"): {
        "sample_size": 96,
        "block_out_channels": [320, 640, 1280, 1280],
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
        "cross_attention_dim": 1024,
        "attention_head_dim": [5, 10, 20, 20],
        "use_linear_projection": True,
    },
    ("sdxl", "published"): {
        "sample_size": 128,
        "block_out_channels": [320, 640, 1280],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "cross_attention_dim": 2048,
        "attention_head_dim": [5, 10, 20],
        "transformer_layers_per_block": [1, 2, 10],
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    ("sd15", "tiny"): {"cross_attention_dim": 24, "attention_head_dim": 4},
    ("sd21", "tiny"): {"cross_attention_dim": 32, "attention_head_dim": [2], "use_linear_projection": True},
    ("sdxl", "tiny"): {
        "cross_attention_dim": 40,
        "attention_head_dim": [2],
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 64,
    },
}
"""Config of the UNet, by architecture and size; tiny ones are completed by TINY_UNET."""

TINY_UNET: Final[Config] = {
    "sample_size": 16,
    "block_out_channels": [32],
    "down_block_types": ["CrossAttnDownBlock2D"],
    "up_block_types": ["UpBlock2D"],
    "mid_block_type": None,
    "layers_per_block": 1,
    "norm_num_groups": 8,
}
"""Keys that all tiny UNets share: one block with one transformer, enough to test how conditions are connected."""

VAES: Final[dict[str, Config]] = {
    "published": {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "norm_num_groups": 32},
    "tiny": {
        "block_out_channels": [8, 8],
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "mid_block_add_attention": False,
    },
}
"""Config of the autoencoder, by size."""
VAE_SCALES: Final = {"sd15": 0.18215, "sd21": 0.18215, "sdxl": 0.13025}
"""`scaling_factor` of the autoencoder, by architecture."""


def make_text_config(width: int, layers: int, heads: int, act: str, projection: int) -> Config:
    """Config of a CLIP text encoder, without the keys of vocabulary and prompt length.

    Args:
        width: Width of a token's state.
        layers: Number of layers.
        heads: Attention heads of a layer.
        act: Activation function, "quick_gelu" or "gelu".
        projection: Width of the pooled text.
    """
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "hidden_act": act,
        "projection_dim": projection,
        # As in published configs; with eos_token_id 2 transformers takes the highest id of a prompt for its end.
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    }


TEXTS: Final[dict[tuple[str, str], tuple[Config, ...]]] = {
    ("sd15", "published"): (make_text_config(768, 12, 12, "quick_gelu", 768),),
    ("sd21", "published"): (make_text_config(1024, 23, 16, "gelu", 512),),
    ("sdxl", "published"): (
        make_text_config(768, 12, 12, "quick_gelu", 768),
        make_text_config(1280, 32, 20, "gelu", 1280),
    ),
    ("sd15", "tiny"): (make_text_config(24, 1, 4, "quick_gelu", 24),),
    ("sd21", "tiny"): (make_text_config(32, 1, 4, "gelu", 16),),
    ("sdxl", "tiny"): (make_text_config(24, 2, 4, "quick_gelu", 24), make_text_config(16, 2, 4, "gelu", 16)),
}
"""Configs of the one or two text encoders, by architecture and size."""

PADS: Final[dict[str, tuple[str, ...]]] = {
    "sd15": ("<|endoftext|>",),
    "sd21": ("!",),
    "sdxl": ("<|endoftext|>", "!"),
}
"""Padding token of each tokenizer, by architecture."""

IMAGES: Final[dict[tuple[str, str], Config]] = {
    ("vit-h", "published"): {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "projection_dim": 1024,
        "image_size": 224,
        "patch_size": 14,
        "hidden_act": "gelu",
    },
    ("bigg", "published"): {
        "hidden_size": 1664,
        "intermediate_size": 8192,
        "num_hidden_layers": 48,
        "num_attention_heads": 16,
        "projection_dim": 1280,
        "image_size": 224,
        "patch_size": 14,
        "hidden_act": "gelu",
    },
    ("vit-h", "tiny"): {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "projection_dim": 24,
        "image_size": 16,
        "patch_size": 8,
        "hidden_act": "gelu",
    },
    ("bigg", "tiny"): {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "projection_dim": 40,
        "image_size": 16,
        "patch_size": 8,
        "hidden_act": "gelu",
    },
}
"""Config of the IP-Adapter's image encoder, by kind and size."""

SCHEDULERS: Final[dict[str, Config]] = {
    "sd15": {
        "_class_name": "PNDMScheduler",
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "num_train_timesteps": 1000,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "trained_betas": None,
        "clip_sample": False,
    },
    "sd21": {
        "_class_name": "DDIMScheduler",
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "num_train_timesteps": 1000,
        "prediction_type": "v_prediction",
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "trained_betas": None,
        "clip_sample": False,
    },
    "sdxl": {
        "_class_name": "EulerDiscreteScheduler",
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "num_train_timesteps": 1000,
        "prediction_type": "epsilon",
        "interpolation_type": "linear",
        "sample_max_value": 1.0,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "timestep_spacing": "leading",
        "trained_betas": None,
        "use_karras_sigmas": False,
        "clip_sample": False,
    },
}
"""Config of the scheduler, by architecture, as published: SD 1.5 has no `prediction_type`, which means epsilon."""
