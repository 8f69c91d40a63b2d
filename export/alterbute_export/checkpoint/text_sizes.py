"""Sizes of a checkpoint's text conditioning, from the configs of its one or two text encoders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from alterbute_export.checkpoint.settings import TIME_IDS
from alterbute_export.errors import CheckpointError

Config = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSizes:
    """Sizes of the text conditioning.

    Args:
        tokens: Tokens T of the longest prompt.
        dim: Width D of a token's state, over both text encoders.
        pooled: Width P of SDXL's pooled text; 0 for a UNet without it.
    """

    tokens: int
    dim: int
    pooled: int


def read_text_sizes(configs: Mapping[str, Config]) -> TextSizes:
    """Sizes of the text conditioning, checked against the UNet's config.

    Args:
        configs: The checkpoint's configs, by part.

    Raises:
        CheckpointError: UNet and text encoders do not fit, or the UNet takes a condition that is not supported.
    """
    unet, first, second = configs["unet"], configs["text_encoder"], configs.get("text_encoder_2")
    _check_conditions(unet, second)
    width = int(first.get("hidden_size", 512)) + int(second.get("hidden_size", 512) if second else 0)
    expected_width = unet.get("cross_attention_dim", 1280)
    if width != expected_width:
        parts = "text_encoder/config.json key `hidden_size`" + (" with text_encoder_2's" if second else "")
        raise CheckpointError(
            f"{parts} is {width}",
            f"{expected_width}, the cross_attention_dim of unet/config.json",
            "use parts that were trained together",
        )
    pooled = int(second.get("projection_dim", 512)) if second else 0
    if second:
        _check_added_embedding(unet, pooled)
    return TextSizes(tokens=int(first.get("max_position_embeddings", 77)), dim=width, pooled=pooled)


def _check_conditions(unet: Config, second: Config | None) -> None:
    """Check the UNet's conditions beside the text states: pooled text and time ids with two encoders, none with one."""
    added = unet.get("addition_embed_type")
    fitting = ("text_time",) if second else (None, "text")
    if added not in fitting:
        raise CheckpointError(
            f"unet/config.json key `addition_embed_type` is {added!r}",
            f"{' or '.join(map(repr, fitting))} with {'two text encoders' if second else 'one text encoder'}",
            "use a checkpoint of the kinds of SD 1.5, SD 2.1 or SDXL with all its text encoders",
        )
    for key in ("class_embed_type", "num_class_embeds", "time_cond_proj_dim", "encoder_hid_dim_type"):
        if unet.get(key) is not None:
            raise CheckpointError(
                f"unet/config.json key `{key}` is {unet[key]!r}", "null", "this condition of the UNet is not supported"
            )


def _check_added_embedding(unet: Config, pooled: int) -> None:
    """Check the width of the UNet's added embedding: pooled text, and one embedding for each time id."""
    expected_width = pooled + TIME_IDS * int(unet.get("addition_time_embed_dim") or 0)
    width = unet.get("projection_class_embeddings_input_dim")
    if width != expected_width:
        raise CheckpointError(
            f"unet/config.json key `projection_class_embeddings_input_dim` is {width}",
            f"{expected_width}: pooled text of {pooled} and {TIME_IDS} numbers of addition_time_embed_dim",
            "use a base or inpainting checkpoint of SDXL; refiners are not supported",
        )
