"""The classes that a checkpoint's parts are loaded with."""

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


def part_class(part: str, config: Mapping[str, Any]) -> Any:
    """The class that `config.json` names among those that a part may have; the first one when it names none.

    Raises:
        CheckpointError: the config names another class.
    """
    kinds = {kind.__name__: kind for kind in _PART_CLASSES[part]}
    named = config.get("_class_name") or (config.get("architectures") or [None])[0] or next(iter(kinds))
    if named not in kinds:
        raise CheckpointError(
            f"{part}/config.json names {named}", " or ".join(kinds), "use a checkpoint with such a part"
        )
    return kinds[named]


_CONFIG_KINDS: Final = {
    "text_encoder": "CLIPTextConfig",
    "text_encoder_2": "CLIPTextConfig",
    "image_encoder": "CLIPVisionConfig",
}


def build_meta(part: str, config: Mapping[str, Any]) -> Any:
    """The model of a config with shapes and no weights.

    Raises:
        CheckpointError: the config describes no model of the class that it names.
    """
    kind = part_class(part, config)
    with quiet_loading(), torch.device("meta"):
        try:
            if part in _CONFIG_KINDS:
                return kind(getattr(transformers, _CONFIG_KINDS[part]).from_dict(dict(config)))
            return kind.from_config(dict(config))
        except (ValueError, TypeError, RuntimeError, KeyError, IndexError, AttributeError) as fault:
            raise CheckpointError(
                f"{part}/config.json describes no model ({fault})".splitlines()[0],
                f"the config of a {kind.__name__}",
                "save the part again",
            ) from None


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Silence the loaders' own bars and warnings: what they say, this package says by name, as an error."""
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
