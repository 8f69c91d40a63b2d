"""Writing a sample checkpoint with random weights, tensor by tensor, from meta models."""

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
from alterbute_export.sample_checkpoints.sample_specs import SampleSpec, make_sample_spec
from alterbute_export.sample_checkpoints.sample_tokenizer import make_tokenizer, write_tokenizer_files

SHARD_BYTES: Final = 4 << 30
BASE_TOKENS, PLUS_TOKENS, PLUS_DEPTH = 4, 16, 4

_LIBRARIES: Final = {"unet": "diffusers", "vae": "diffusers"}


def make_checkpoint(
    folder: Path,
    spec: SampleSpec | str = "demo",
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float16,
    shard_bytes: int = SHARD_BYTES,
    variant: str | None = None,
) -> Path:
    """Write a sample checkpoint and return its folder; the same arguments give the same bytes.

    Args:
        folder: Folder of the checkpoint, created if it is missing.
        spec: The checkpoint's spec, or one of KINDS for its tiny spec.
        seed: Seed of the weights.
        dtype: Type of the weights on disk.
        shard_bytes: Largest size of a weights file; larger parts are split into shards with an index.
        variant: "fp16" for the file names of diffusers' fp16 variant, None for plain names.
    """
    spec = make_sample_spec(spec) if isinstance(spec, str) else spec
    generator = torch.Generator().manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = _write_tokenizers(folder, spec)
    index: dict[str, Any] = {
        "_class_name": spec.pipeline,
        "_diffusers_version": diffusers.__version__,
        "scheduler": ["diffusers", spec.scheduler["_class_name"]],
    }
    unet: Any = None
    for name, config in spec.parts.items():
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
    if spec.adapter:
        file, kind = spec.adapter
        shapes = _adapter_shapes(unet, spec.parts["image_encoder"], kind)
        save_file(dict(_draw_all(shapes, generator, dtype)), str(folder / file), metadata={"format": "pt"})
    (folder / "scheduler").mkdir(exist_ok=True)
    write_json(folder / "scheduler" / "scheduler_config.json", spec.scheduler)
    write_json(folder / "model_index.json", dict(sorted(index.items())))
    if spec.settings is not None:
        write_json(folder / "alterbute.json", spec.settings)
    return folder


def write_weights(
    folder: Path,
    stem: str,
    tensors: Iterator[tuple[str, torch.Tensor]],
    *,
    shard_bytes: int = SHARD_BYTES,
    variant: str | None = None,
) -> None:
    """Write tensors as one file, or as shards with an index, under the file names of the published layout.

    Args:
        folder: The part's folder.
        stem: Name of the weights file without its suffix.
        tensors: Names and tensors, in the order in which they are written.
        shard_bytes: Largest size of a file; a single tensor may exceed it.
        variant: "fp16" for the file names of diffusers' fp16 variant, None for plain names.
    """
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
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file_name = (
            f"{stem}{dot}-{number:05d}-of-{len(shards):05d}.safetensors"
            if len(shards) > 1
            else f"{stem}{dot}.safetensors"
        )
        (folder / f"{stem}{dot}-{number:05d}-of-unknown.safetensors").rename(folder / file_name)
        weight_map |= dict.fromkeys(names, file_name)
    if len(shards) > 1:
        write_json(
            folder / f"{stem}.safetensors.index{dot}.json",
            {"metadata": {"total_size": total}, "weight_map": weight_map},
        )


def _adapter_shapes(unet: Any, encoder: Mapping[str, Any], kind: str) -> dict[str, tuple[int, ...]]:
    """Shapes of an IP-Adapter's tensors for a UNet and the config of an image encoder, by published key.

    The resampler of SD 1.5 is as wide as its text states, that of SDXL has width 1280. Tiny ones have one head and as many
    layers as published ones.
    """
    dim = int(unet.config.cross_attention_dim)
    if kind == "base":
        return adapter_shapes(unet, base_shapes(BASE_TOKENS, dim, int(encoder["projection_dim"])))
    inner = min(max(dim // HEAD_DIM * HEAD_DIM, HEAD_DIM), 1280)
    width = int(encoder["hidden_size"])
    return adapter_shapes(
        unet, resampler_shapes(PLUS_TOKENS, dim, width, inner=inner, head_widths=[inner] * PLUS_DEPTH)
    )


def write_json(path: Path, value: object) -> None:
    """Write `value` to a file as indented JSON with a final newline."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _write_tokenizers(folder: Path, spec: SampleSpec) -> int:
    """Write a tokenizer for each text encoder; return the size of their vocabulary."""
    if not spec.pads:
        tokenizer = make_tokenizer(spec.tokens, entries=spec.entries)
        tokenizer.save_pretrained(folder / "tokenizer")
        return len(tokenizer)
    names = ("tokenizer", "tokenizer_2")
    counts = [
        write_tokenizer_files(folder / name, spec.tokens, entries=spec.entries, pad=pad)
        for name, pad in zip(names, spec.pads, strict=False)
    ]
    return counts[0]


def _published_shapes(name: str, model: Any) -> dict[str, tuple[int, ...]]:
    """Shape of each published key; the first text encoder's have a prefix that transformers 5 dropped."""
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
    """Draw one weight: matrices keep the variance of their input; norms and biases are not neutral."""
    noise = torch.randn(shape, generator=generator)
    if len(shape) > 1:
        fan_in = noise[0].numel()
        return noise * (3 * fan_in) ** -0.5
    return noise * 0.1 if name.endswith("bias") else 1 + 0.2 * noise
