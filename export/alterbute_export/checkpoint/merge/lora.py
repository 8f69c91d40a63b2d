"""Merging LoRA files (arXiv 2106.09685): W + weight * alpha / r * up @ down, with rank r."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from alterbute_export.checkpoint.layout import open_weights
from alterbute_export.checkpoint.merge.lora_keys import make_module_finder, parse_key
from alterbute_export.errors import CheckpointError


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraFile:
    """A LoRA file, every key of which was parsed.

    Args:
        path: The file.
        weight: Factor with which its updates are added.
        keys: Key of each role (`down`, `up`, and `alpha` where there is one), by part and module.
        alphas: Alpha values of the file's metadata, by `part` or `part.module`.
    """

    path: Path
    weight: float
    keys: Mapping[str, Mapping[str, Mapping[str, str]]]
    alphas: Mapping[str, float]


def read_lora(path: Path, weight: float) -> LoraFile:
    """Parse the keys and metadata of a LoRA file; no tensor is loaded.

    Raises:
        CheckpointError: a key is in no supported naming scheme, or a module lacks its `down` or `up` tensor.
    """
    with open_weights(path) as file:
        names: list[str] = sorted(file.keys())
        metadata: dict[str, str] = file.metadata() or {}
    keys: dict[str, dict[str, dict[str, str]]] = {}
    for name in names:
        key = parse_key(name)
        if key is None:
            raise CheckpointError(
                f"--lora {path.name} has an unknown key {name}",
                "LoRA keys of diffusers, PEFT or kohya for UNet and text encoders (no DoRA, LoHa, LoKr or mid layers)",
                "convert the file to plain LoRA",
            )
        keys.setdefault(key.part, {}).setdefault(key.module, {})[key.role] = name
    for part, modules in keys.items():
        for module, roles in modules.items():
            for role in ("down", "up"):
                if role not in roles:
                    raise CheckpointError(
                        f"--lora {path.name} lacks the {role} tensor of {module} in {part}",
                        "both of every module",
                        "copy it again",
                    )
    return LoraFile(path=path, weight=weight, keys=keys, alphas=_read_alphas(path, metadata))


def check_parts(lora: LoraFile, parts: Mapping[str, Any]) -> None:
    """Check that the checkpoint has every part that a LoRA file changes.

    Raises:
        CheckpointError: the file changes a part that the checkpoint does not have.
    """
    for part in lora.keys:
        if part not in parts:
            raise CheckpointError(
                f"--lora {lora.path.name} changes {part}, which the checkpoint does not have",
                "a file for this architecture",
                "use a LoRA that was trained on the checkpoint's base model",
            )


def merge_lora(lora: LoraFile, part: str, model: nn.Module) -> None:
    """Add a LoRA file's updates to the weights of one part, in place.

    Args:
        lora: The file; updates of other parts are skipped.
        part: The part, such as `unet`.
        model: Its model in fp32.

    Raises:
        CheckpointError: a module of the file is not in the model, or has another shape there.
    """
    modules = {name: module for name, module in model.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))}
    layers: Any = getattr(model.config, "layers_per_block", 2)
    find_module = make_module_finder(modules, layers if isinstance(layers, int) else layers[0])
    with open_weights(lora.path) as file, torch.no_grad():
        for module, roles in lora.keys.get(part, {}).items():
            name = find_module(module)
            if name is None:
                raise CheckpointError(
                    f"--lora {lora.path.name} changes {module}, which {part}/ does not have",
                    "modules of the checkpoint's architecture",
                    "use a LoRA that was trained on the checkpoint's base model",
                )
            down, up = file.get_tensor(roles["down"]).float(), file.get_tensor(roles["up"]).float()
            alpha = (
                float(file.get_tensor(roles["alpha"])) if "alpha" in roles else _alpha(lora, part, module, len(down))
            )
            target = modules[name].weight
            update = up.flatten(1) @ down.flatten(1) if up.shape[1] == len(down) else up
            if update.shape[0] != target.shape[0] or update.numel() != target.numel():
                raise CheckpointError(
                    f"--lora {lora.path.name} key {roles['up']} with its other half makes {list(update.shape)}",
                    f"{list(target.shape)}, the shape of {name} in {part}/",
                    "use a LoRA that was trained on the checkpoint's base model",
                )
            target.add_(update.reshape(target.shape), alpha=lora.weight * alpha / len(down))


def _alpha(lora: LoraFile, part: str, module: str, rank: int) -> float:
    """Alpha of a module without an alpha tensor, from the metadata; by default the rank, so that alpha / r is 1."""
    return lora.alphas.get(f"{part}.{module}", lora.alphas.get(part, float(rank)))


def _read_alphas(path: Path, metadata: Mapping[str, str]) -> dict[str, float]:
    """Alpha values of the metadata that diffusers writes for PEFT: `<part>.lora_alpha` and `<part>.alpha_pattern`."""
    try:
        adapter = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except ValueError:
        adapter = {}
    alphas: dict[str, float] = {}
    for key, value in adapter.items() if isinstance(adapter, dict) else ():
        part, _, field = key.partition(".")
        if field == "lora_alpha" and isinstance(value, (int, float)):
            alphas[part] = float(value)
        elif field == "alpha_pattern" and isinstance(value, dict):
            alphas |= {f"{part}.{module.replace('.', '_')}": float(alpha) for module, alpha in value.items()}
        elif field in ("use_rslora", "use_dora") and value:
            raise CheckpointError(
                f"--lora {path.name} was trained with {field}", "plain LoRA", "convert the file to plain LoRA"
            )
    return alphas
