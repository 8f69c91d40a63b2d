"""From a part's safetensors files to its model in fp32, holding each weight once: tensor by tensor into a hollow model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import nn

from alterbute_export.checkpoint.layout import Part, open_weights
from alterbute_export.checkpoint.model_classes import build_meta, part_class, quiet_loading
from alterbute_export.errors import CheckpointError

_DIFFUSERS_PARTS: Final = ("unet", "vae")
"""transformers fills hollow models itself; diffusers makes a random model first, and fills it from a second copy."""


def load_part(part: Part, config: Mapping[str, Any]) -> nn.Module:
    """The model of one part in fp32, every weight of it from the files.

    Raises:
        CheckpointError: a key is missing, unknown or of another shape than the part's config says.
    """
    if part.name in _DIFFUSERS_PARTS:
        model: nn.Module = build_meta(part.name, config)
        if _has_own_keys(part, model):
            _fill(part, model)
            # What is computed when a model is made is in no file.
            if not any(buffer.is_meta for buffer in model.buffers()):
                return model
    # Keys of older files are translated there, and what is wrong with a file is found out.
    return _load_by_library(part, config)


def check_part(part: Part, config: Mapping[str, Any]) -> Any:
    """The hollow model of a part whose files fit it, by their headers where those have today's keys.

    Raises:
        CheckpointError: as of `load_part`.
    """
    model = build_meta(part.name, config)
    if part.name in _DIFFUSERS_PARTS and not _has_own_keys(part, model):
        _load_by_library(part, config)
    return model


def _has_own_keys(part: Part, model: nn.Module) -> bool:
    """Whether the files hold exactly the model's keys in its shapes."""
    found: dict[str, tuple[int, ...]] = {}
    for path in part.files:
        with open_weights(path) as file:
            found |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    return found == {name: tuple(value.shape) for name, value in model.state_dict().items()}


def _fill(part: Part, model: nn.Module) -> None:
    for path in part.files:
        with open_weights(path) as file:
            # What is fp32 in the file stays mapped, privately: merging into it changes memory and not the file.
            weights = {name: file.get_tensor(name).to(torch.float32) for name in file.keys()}
        model.load_state_dict(weights, strict=False, assign=True)


def _load_by_library(part: Part, config: Mapping[str, Any]) -> nn.Module:
    kind = part_class(part.name, config)
    with quiet_loading():
        try:
            model, report = kind.from_pretrained(
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
                f"{part.name}/ cannot be loaded ({fault})", f"a {kind.__name__}", "save the part again"
            ) from None
    for seen, keys in (
        ("lacks", report["missing_keys"]),
        ("has an unknown", report["unexpected_keys"]),
        ("has a misshapen", [_describe(entry) for entry in report["mismatched_keys"]]),
    ):
        known = sorted(str(key) for key in keys if not str(key).endswith("position_ids"))
        if known:
            more = f" and {len(known) - 1} more" if len(known) > 1 else ""
            raise CheckpointError(
                f"{part.name}/ {seen} key {known[0]}{more}",
                f"the keys and shapes of its config.json ({kind.__name__})",
                "save the part and its config together",
            )
    loaded: nn.Module = model
    return loaded


def _describe(entry: Any) -> str:
    """diffusers and transformers report `(key, shape in the file, shape of the model)`."""
    if isinstance(entry, (tuple, list)) and len(entry) == 3:
        key, found, wanted = entry
        return f"{key} {list(found)} where {list(wanted)} is due"
    return str(entry)
