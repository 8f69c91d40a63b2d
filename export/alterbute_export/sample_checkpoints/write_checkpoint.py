"""Writing a checkpoint of random weights, part by part and without ever building a model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import diffusers
import torch
from safetensors.torch import save_file

from alterbute_export.checkpoint.ip_adapter_shapes import adapter_shapes, base_shapes, resampler_shapes
from alterbute_export.checkpoint.layout import STEMS
from alterbute_export.checkpoint.model_classes import build_meta
from alterbute_export.modules.ip_adapter_projectors import HEAD_DIM
from alterbute_export.sample_checkpoints.sample_tokenizer import make_tokenizer, write_tokenizer_files
from alterbute_export.sample_checkpoints.shapes import Shape, sample_shape

SHARD_BYTES: Final = 4 << 30
BASE_TOKENS, PLUS_TOKENS, PLUS_DEPTH = 4, 16, 4

_LIBRARIES: Final = {"unet": "diffusers", "vae": "diffusers"}


def make_checkpoint(
    folder: Path,
    shape: Shape | str = "demo",
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float16,
    shard_bytes: int = SHARD_BYTES,
    variant: str | None = None,
) -> Path:
    """Write a checkpoint and return its folder; the same arguments give the same bytes.

    Args:
        folder: Where; it is made if it is not there.
        shape: What; a word of KINDS stands for its tiny shape.
        seed: Of the weights.
        dtype: Of the weights on disk.
        shard_bytes: Larger parts are split into shards with an index, as published ones are.
        variant: "fp16" writes the files under the names of that variant.
    """
    chosen = sample_shape(shape) if isinstance(shape, str) else shape
    generator = torch.Generator().manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = _write_tokenizers(folder, chosen)
    index: dict[str, Any] = {
        "_class_name": chosen.pipeline,
        "_diffusers_version": diffusers.__version__,
        "scheduler": ["diffusers", chosen.scheduler["_class_name"]],
    }
    unet: Any = None
    for name, config in chosen.parts.items():
        config = {**config, **({"vocab_size": vocabulary} if "vocab_size" in config else {})}
        model = build_meta(name, config)
        unet = model if name == "unet" else unet
        (folder / name).mkdir(exist_ok=True)
        _write_config(folder / name, model)
        tensors = _draw_all(_published_shapes(name, model), generator, dtype)
        write_weights(folder / name, STEMS[name], tensors, shard_bytes=shard_bytes, variant=variant)
        index[name] = [_LIBRARIES.get(name, "transformers"), type(model).__name__]
        if name.startswith("text_encoder"):
            index[name.replace("text_encoder", "tokenizer")] = ["transformers", "CLIPTokenizer"]
    if chosen.adapter:
        file, kind = chosen.adapter
        shapes = _adapter_shapes(unet, chosen.parts["image_encoder"], kind)
        save_file(dict(_draw_all(shapes, generator, dtype)), str(folder / file), metadata={"format": "pt"})
    (folder / "scheduler").mkdir(exist_ok=True)
    write_json(folder / "scheduler" / "scheduler_config.json", chosen.scheduler)
    write_json(folder / "model_index.json", dict(sorted(index.items())))
    if chosen.settings is not None:
        write_json(folder / "alterbute.json", chosen.settings)
    return folder


def write_weights(
    folder: Path,
    stem: str,
    tensors: Iterator[tuple[str, torch.Tensor]],
    *,
    shard_bytes: int = SHARD_BYTES,
    variant: str | None = None,
) -> None:
    """Write tensors as one file, or as shards with an index, under the names that the published layout gives them."""
    shards: list[list[str]] = []
    pending: dict[str, torch.Tensor] = {}
    size = total = 0
    dot = f".{variant}" if variant else ""

    def flush() -> None:
        if pending:
            path = folder / f"{stem}{dot}-{len(shards) + 1:05d}-of-unknown.safetensors"
            save_file(pending, str(path), metadata={"format": "pt"})
            shards.append(list(pending))
            pending.clear()

    for name, tensor in tensors:
        if size + tensor.nbytes > shard_bytes:
            flush()
            size = 0
        pending[name] = tensor
        size += tensor.nbytes
        total += tensor.nbytes
    flush()
    where: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        place = (
            f"{stem}{dot}-{number:05d}-of-{len(shards):05d}.safetensors"
            if len(shards) > 1
            else f"{stem}{dot}.safetensors"
        )
        (folder / f"{stem}{dot}-{number:05d}-of-unknown.safetensors").rename(folder / place)
        where |= dict.fromkeys(names, place)
    if len(shards) > 1:
        write_json(
            folder / f"{stem}.safetensors.index{dot}.json", {"metadata": {"total_size": total}, "weight_map": where}
        )


def _adapter_shapes(unet: Any, encoder: Mapping[str, Any], kind: str) -> dict[str, tuple[int, ...]]:
    """The tensors of an IP-Adapter of a UNet and an image encoder, under their published names.

    SD 1.5's resampler is as wide as its text, SDXL's 1280; tiny ones have one head, and as many layers.
    """
    dim = int(unet.config.cross_attention_dim)
    if kind == "base":
        return adapter_shapes(unet, base_shapes(BASE_TOKENS, dim, int(encoder["projection_dim"])))
    inner = min(max(dim // HEAD_DIM * HEAD_DIM, HEAD_DIM), 1280)
    width = int(encoder["hidden_size"])
    return adapter_shapes(unet, resampler_shapes(PLUS_TOKENS, dim, width, inner=inner, heads=[inner] * PLUS_DEPTH))


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _write_tokenizers(folder: Path, shape: Shape) -> int:
    """Write a tokenizer for each text encoder; returns how many ids they have."""
    if not shape.pads:
        tokenizer = make_tokenizer(shape.tokens, entries=shape.entries)
        tokenizer.save_pretrained(folder / "tokenizer")
        return len(tokenizer)
    names = ("tokenizer", "tokenizer_2")
    counts = [
        write_tokenizer_files(folder / name, shape.tokens, entries=shape.entries, pad=pad)
        for name, pad in zip(names, shape.pads, strict=False)
    ]
    return counts[0]


def _published_shapes(name: str, model: Any) -> dict[str, tuple[int, ...]]:
    """Shapes by key. Files of the first text encoder have a prefix that transformers 5 no longer has."""
    prefix = "text_model." if name == "text_encoder" else ""
    return {
        key if key.startswith(prefix) else prefix + key: tuple(value.shape) for key, value in model.state_dict().items()
    }


def _write_config(folder: Path, model: Any) -> None:
    if hasattr(model, "save_config"):
        model.save_config(folder)
    else:
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(folder)


def _draw_all(
    shapes: Mapping[str, tuple[int, ...]], generator: torch.Generator, dtype: torch.dtype
) -> Iterator[tuple[str, torch.Tensor]]:
    for name, shape in shapes.items():
        yield name, _draw(name, shape, generator).to(dtype).contiguous()


def _draw(name: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Weights that keep the spread of what goes through; norms and biases off their neutral start, so that errors show."""
    noise = torch.randn(shape, generator=generator)
    if len(shape) > 1:
        fan_in = noise[0].numel()
        return noise * (3 * fan_in) ** -0.5
    return noise * 0.1 if name.endswith("bias") else 1 + 0.2 * noise
