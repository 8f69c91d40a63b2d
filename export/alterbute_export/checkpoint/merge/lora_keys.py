"""Key names of LoRA files, and the modules that they refer to.

Three naming schemes: that of PEFT and diffusers (`unet.down_blocks.0....to_q.lora_A.weight`), that of older diffusers
(`...attn1.processor.to_q_lora.down.weight`, `...lora_linear_layer.down.weight`), and that of kohya
(`lora_unet_down_blocks_0_..._to_q.lora_down.weight`), which may number the UNet's blocks as the original Stable Diffusion code does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

Role = Literal["down", "up", "alpha"]

_PREFIXES: Final = (
    ("unet.", "unet"),
    ("text_encoder_2.", "text_encoder_2"),
    ("text_encoder.", "text_encoder"),
    ("lora_unet_", "unet"),
    ("lora_te1_", "text_encoder"),
    ("lora_te2_", "text_encoder_2"),
    ("lora_te_", "text_encoder"),
)
_SUFFIXES: Final[tuple[tuple[str, Role], ...]] = (
    (r"\.lora_A(\.default)?\.weight", "down"),
    (r"\.lora_B(\.default)?\.weight", "up"),
    (r"\.lora(_linear_layer)?\.down\.weight", "down"),
    (r"\.lora(_linear_layer)?\.up\.weight", "up"),
    (r"_lora\.down\.weight", "down"),
    (r"_lora\.up\.weight", "up"),
    (r"\.lora_down\.weight", "down"),
    (r"\.lora_up\.weight", "up"),
    (r"\.alpha", "alpha"),
)
_RESNET: Final = {
    "in_layers_2": "conv1",
    "emb_layers_1": "time_emb_proj",
    "out_layers_3": "conv2",
    "skip_connection": "conv_shortcut",
}
_ENDS: Final = {
    "input_blocks_0_0": "conv_in",
    "out_2": "conv_out",
    "time_embed_0": "time_embedding_linear_1",
    "time_embed_2": "time_embedding_linear_2",
    "label_emb_0_0": "add_embedding_linear_1",
    "label_emb_0_2": "add_embedding_linear_2",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraKey:
    """A parsed key: the part that it changes, the module in it with `_` for every `.`, and the tensor's role."""

    part: str
    module: str
    role: Role


def parse_key(key: str) -> LoraKey | None:
    """Parse a key in any of the naming schemes; None for a key in none of them."""
    prefix, part = next(((prefix, part) for prefix, part in _PREFIXES if key.startswith(prefix)), ("", ""))
    rest = key.removeprefix(prefix)
    for pattern, role in _SUFFIXES if part else ():
        match = re.search(f"{pattern}$", rest)
        if match:
            module = rest[: match.start()].replace(".processor.", ".").replace(".", "_")
            return LoraKey(part=part, module=module, role=role)
    return None


def make_module_finder(names: Iterable[str], layers_per_block: int) -> Callable[[str], str | None]:
    """A function that maps a `LoraKey.module` to the module's name in the model, or to None if there is none.

    Args:
        names: Names of the model's modules that have weights.
        layers_per_block: ResNets per block of the UNet, from which the original code's block numbers follow.
    """
    by_flat_name = {name.replace(".", "_"): name for name in names}

    def find_module(module: str) -> str | None:
        originals = _convert_original_name(module, layers_per_block)
        for candidate in (
            module,
            f"{module}_0",
            module.removeprefix("text_model_"),
            f"text_model_{module}",
            *originals,
        ):
            if candidate in by_flat_name:
                return by_flat_name[candidate]
        return None

    return find_module


def _convert_original_name(module: str, layers: int) -> list[str]:
    """diffusers' name of a module that is named by the original code's block numbers; empty for other names."""
    if module in _ENDS:
        return [_ENDS[module]]
    match = re.fullmatch(r"(input|output)_blocks_(\d+)_(\d+)_(.+)", module)
    if match:
        side, number, position, rest = match[1], int(match[2]), int(match[3]), match[4]
        index = number - 1 if side == "input" else number
        name, layer = f"{'down' if side == 'input' else 'up'}_blocks_{index // (layers + 1)}", index % (layers + 1)
        sampler = f"{name}_{'downsamplers' if side == 'input' else 'upsamplers'}_0_conv"
        if rest in ("op", "conv"):
            return [sampler]
        if position == 0:
            return [f"{name}_resnets_{layer}_{_RESNET.get(rest, rest)}"]
        return [f"{name}_attentions_{layer}_{rest}"]
    match = re.fullmatch(r"middle_block_(\d)_(.+)", module)
    if match:
        position, rest = int(match[1]), match[2]
        if position == 1:
            return [f"mid_block_attentions_0_{rest}"]
        return [f"mid_block_resnets_{position // 2}_{_RESNET.get(rest, rest)}"]
    return []
