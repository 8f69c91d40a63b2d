"""Model classes of a checkpoint's parts, and meta models of their configs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import diffusers
import torch
import transformers
from diffusers import AutoencoderDC, AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPVisionModelWithProjection

from alterbute_export.errors import CheckpointError

_PART_CLASSES: Final[dict[str, tuple[Any, ...]]] = {
    "unet": (UNet2DConditionModel,),
    "vae": (AutoencoderKL, AutoencoderDC),
    "text_encoder": (CLIPTextModel,),
    "text_encoder_2": (CLIPTextModelWithProjection,),
    "image_encoder": (CLIPVisionModelWithProjection,),
}


def find_part_class(part: str, config: Mapping[str, Any]) -> Any:
    """The model class that a part's config names, or the part's default class where it names none.

    Raises:
        CheckpointError: the config names a class that is not supported for this part.
    """
    classes = {model_class.__name__: model_class for model_class in _PART_CLASSES[part]}
    name = config.get("_class_name") or (config.get("architectures") or [None])[0] or next(iter(classes))
    if name not in classes:
        raise CheckpointError(
            f"{part}/config.json names {name}", " or ".join(classes), "use a checkpoint with such a part"
        )
    return classes[name]


_CONFIG_CLASSES: Final = {
    "text_encoder": "CLIPTextConfig",
    "text_encoder_2": "CLIPTextConfig",
    "image_encoder": "CLIPVisionConfig",
}


def build_meta(part: str, config: Mapping[str, Any]) -> Any:
    """The meta model of a config: shapes without weights.

    Raises:
        CheckpointError: no model of the class that the config names can be built from it.
    """
    model_class = find_part_class(part, config)
    with quiet_loading(), torch.device("meta"):
        try:
            if part in _CONFIG_CLASSES:
                return model_class(getattr(transformers, _CONFIG_CLASSES[part]).from_dict(dict(config)))
            return model_class.from_config(dict(config))
        except (ValueError, TypeError, RuntimeError, KeyError, IndexError, AttributeError) as fault:
            raise CheckpointError(
                f"{part}/config.json describes no model ({fault})".splitlines()[0],
                f"the config of a {model_class.__name__}",
                "save the part again",
            ) from None


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Silence progress bars and warnings of diffusers and transformers; their load reports become CheckpointErrors."""
    libraries: tuple[Any, ...] = (diffusers.utils.logging, transformers.utils.logging)
    before = [(library, library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    for library in libraries:
        library.set_verbosity(logging.CRITICAL)
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, level, had_bar in before:
            library.set_verbosity(level)
            if had_bar:
                library.enable_progress_bar()
