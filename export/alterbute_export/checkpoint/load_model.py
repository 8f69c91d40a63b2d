"""Loading a part's safetensors files into a meta model in fp32, so that each weight is in memory once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import nn

from alterbute_export.checkpoint.layout import Part, open_weights
from alterbute_export.checkpoint.model_classes import build_meta, find_part_class, quiet_loading
from alterbute_export.errors import CheckpointError

_DIFFUSERS_PARTS: Final = ("unet", "vae")
"""Parts loaded here: transformers loads into meta models itself; diffusers first makes a model of random weights."""


def load_part(part: Part, config: Mapping[str, Any]) -> nn.Module:
    """The model of one part in fp32 with the weights of its files.

    Raises:
        CheckpointError: a key is missing, unknown or of another shape than in the model of the part's config.
    """
    if part.name in _DIFFUSERS_PARTS:
        model: nn.Module = build_meta(part.name, config)
        if _has_own_keys(part, model):
            _fill(part, model)
            # Buffers that a constructor computes are in no file and would stay on the meta device.
            if not any(buffer.is_meta for buffer in model.buffers()):
                return model
    # The libraries translate the keys of older files, and report missing, unknown and misshapen keys.
    return _load_by_library(part, config)


def check_part(part: Part, config: Mapping[str, Any]) -> Any:
    """The meta model of a part, checked against the part's files: by headers alone where their keys are the model's.

    Files whose keys differ, such as those of older versions, are loaded once to check them.

    Raises:
        CheckpointError: a key is missing, unknown or of another shape than in the model of the part's config.
    """
    model = build_meta(part.name, config)
    if part.name in _DIFFUSERS_PARTS and not _has_own_keys(part, model):
        _load_by_library(part, config)
    return model


def _has_own_keys(part: Part, model: nn.Module) -> bool:
    """Whether the files hold exactly the model's keys in its shapes."""
    stored_shapes: dict[str, tuple[int, ...]] = {}
    for path in part.files:
        with open_weights(path) as file:
            stored_shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    return stored_shapes == {name: tuple(value.shape) for name, value in model.state_dict().items()}


def _fill(part: Part, model: nn.Module) -> None:
    for path in part.files:
        with open_weights(path) as file:
            # fp32 tensors stay memory-mapped, copy-on-write: merging LoRA files into them does not change the file.
            weights = {name: file.get_tensor(name).to(torch.float32) for name in file.keys()}
        model.load_state_dict(weights, strict=False, assign=True)


def _load_by_library(part: Part, config: Mapping[str, Any]) -> nn.Module:
    model_class = find_part_class(part.name, config)
    with quiet_loading():
        try:
            model, report = model_class.from_pretrained(
                part.folder,
                local_files_only=True,
                use_safetensors=True,
                variant=part.variant,
                torch_dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
        except (ValueError, TypeError, RuntimeError, OSError) as fault:
            raise CheckpointError(
                f"{part.name}/ cannot be loaded ({fault})", f"a {model_class.__name__}", "save the part again"
            ) from None
    for problem, keys in (
        ("lacks", report["missing_keys"]),
        ("has an unknown", report["unexpected_keys"]),
        ("has a misshapen", [_describe(entry) for entry in report["mismatched_keys"]]),
    ):
        # Older transformers saved this buffer, and newer ones compute it.
        relevant_keys = sorted(str(key) for key in keys if not str(key).endswith("position_ids"))
        if relevant_keys:
            more = f" and {len(relevant_keys) - 1} more" if len(relevant_keys) > 1 else ""
            raise CheckpointError(
                f"{part.name}/ {problem} key {relevant_keys[0]}{more}",
                f"the keys and shapes of its config.json ({model_class.__name__})",
                "save the part and its config together",
            )
    loaded: nn.Module = model
    return loaded


def _describe(entry: Any) -> str:
    """Text of one mismatched key; diffusers and transformers report `(key, shape in the file, shape in the model)`."""
    if isinstance(entry, (tuple, list)) and len(entry) == 3:
        key, stored_shape, model_shape = entry
        return f"{key} {list(stored_shape)} where {list(model_shape)} is due"
    return str(entry)
