"""Configs of the parts of SD 1.5, SD 2.1 and SDXL as published, and the same architectures in small."""

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
"""By architecture and size. Tiny ones get one block with one transformer: what they have to show is how they are wired."""

TINY_UNET: Final[Config] = {
    "sample_size": 16,
    "block_out_channels": [32],
    "down_block_types": ["CrossAttnDownBlock2D"],
    "up_block_types": ["UpBlock2D"],
    "mid_block_type": None,
    "layers_per_block": 1,
    "norm_num_groups": 8,
}

VAES: Final[dict[str, Config]] = {
    "published": {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "norm_num_groups": 32},
    "tiny": {
        "block_out_channels": [8, 8],
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "mid_block_add_attention": False,
    },
}
VAE_SCALES: Final = {"sd15": 0.18215, "sd21": 0.18215, "sdxl": 0.13025}


def text_config(width: int, layers: int, heads: int, act: str, projection: int) -> Config:
    """A CLIP text encoder; published ones have CLIP's vocabulary and window."""
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "hidden_act": act,
        "projection_dim": projection,
        # What the published configs say; the end of a prompt is then the highest id in it.
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    }


TEXTS: Final[dict[tuple[str, str], tuple[Config, ...]]] = {
    ("sd15", "published"): (text_config(768, 12, 12, "quick_gelu", 768),),
    ("sd21", "published"): (text_config(1024, 23, 16, "gelu", 512),),
    ("sdxl", "published"): (text_config(768, 12, 12, "quick_gelu", 768), text_config(1280, 32, 20, "gelu", 1280)),
    ("sd15", "tiny"): (text_config(24, 1, 4, "quick_gelu", 24),),
    ("sd21", "tiny"): (text_config(32, 1, 4, "gelu", 16),),
    ("sdxl", "tiny"): (text_config(24, 2, 4, "quick_gelu", 24), text_config(16, 2, 4, "gelu", 16)),
}

PADS: Final[dict[str, tuple[str, ...]]] = {
    "sd15": ("<|endoftext|>",),
    "sd21": ("!",),
    "sdxl": ("<|endoftext|>", "!"),
}

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
"""As published, SD 1.5's without a prediction type: what is missing is epsilon."""
