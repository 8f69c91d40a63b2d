"""Weights files of a checkpoint: one file, an fp16 variant, or shards with an index; never a pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open

from alterbute_export.errors import CheckpointError

ADAPTER_PATTERNS: Final = ("ip_adapter*.safetensors", "ip-adapter*.safetensors")
"""Names under which IP-Adapter files are published."""

_PICKLES: Final = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
STEMS: Final[Mapping[str, str]] = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
    "text_encoder_2": "model",
    "image_encoder": "model",
}
"""Name of a part's weights file without its suffix, by part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One model of a checkpoint and its weights files.

    Args:
        name: Name of the part, such as `unet`.
        folder: The part's own folder.
        files: Its weights: one file, or all shards.
        variant: "fp16" for files of diffusers' fp16 variant, None for the plain files.
    """

    name: str
    folder: Path
    files: tuple[Path, ...]
    variant: str | None

    @property
    def config_name(self) -> str:
        """The config file's path as messages name it."""
        return f"{self.name}/config.json"


def find_part(folder: Path, name: str) -> Part:
    """A part's weights files, each of which was opened; plain files take precedence over the fp16 variant.

    Args:
        folder: The part's own folder.
        name: Name of the part: `unet`, `vae`, `text_encoder`, `text_encoder_2` or `image_encoder`.

    Raises:
        CheckpointError: config or weights are missing, are a pickle, or cannot be read.
    """
    read_json(folder / "config.json", f"{name}/config.json")
    stem = STEMS[name]
    for variant, single, index in (
        (None, f"{stem}.safetensors", f"{stem}.safetensors.index.json"),
        ("fp16", f"{stem}.fp16.safetensors", f"{stem}.safetensors.index.fp16.json"),
    ):
        if (folder / single).is_file():
            files = [folder / single]
        elif (folder / index).is_file():
            files = _read_shards(folder, name, index)
        else:
            continue
        for path in files:
            with open_weights(path):
                pass
        return Part(name=name, folder=folder, files=tuple(files), variant=variant)
    raise _no_weights(folder, name, stem)


def find_adapter(folder: Path) -> Path | None:
    """The IP-Adapter file at the top of a checkpoint, or None.

    Raises:
        CheckpointError: there are several.
    """
    paths = sorted({path for pattern in ADAPTER_PATTERNS for path in folder.glob(pattern)})
    if len(paths) > 1:
        raise CheckpointError(
            f"the checkpoint has several adapters: {', '.join(path.name for path in paths)}",
            "one",
            "choose with --adapter FILE",
        )
    return paths[0] if paths else None


def check_weights_file(path: Path, flag: str) -> Path:
    """The path of a file that the command line names, checked to be a readable safetensors file.

    Args:
        path: The file.
        flag: The command line's option, for messages.

    Raises:
        CheckpointError: the file is missing, a pickle, or cannot be read.
    """
    if path.suffix in _PICKLES:
        raise CheckpointError(f"{flag} {path.name} is a pickle, {_DANGER}", "safetensors", _convert_file(path.name))
    if not path.is_file():
        raise CheckpointError(f"{flag} {path} is not there", "a .safetensors file", f"give {flag} another file")
    with open_weights(path):
        pass
    return path


def open_weights(path: Path) -> Any:
    """A safetensors reader of the file, to be used as a context manager.

    Raises:
        CheckpointError: the file is missing or is not a safetensors file.
    """
    try:
        return safe_open(str(path), framework="pt")
    except (SafetensorError, OSError) as fault:
        name = f"{path.parent.name}/{path.name}"
        raise CheckpointError(f"{name} cannot be read ({fault})", "a safetensors file", "copy it again") from None


def is_stored_fp16(paths: tuple[Path, ...]) -> bool:
    """Whether every floating-point tensor of the files is fp16."""
    for path in paths:
        with open_weights(path) as file:
            names: list[str] = file.keys()
            dtypes = {file.get_slice(name).get_dtype() for name in names}
        if dtypes & {"F32", "F64", "BF16"}:
            return False
    return True


def read_json(path: Path, name: str) -> dict[str, Any]:
    """The JSON object in a file of the checkpoint; messages call the file `name`.

    Raises:
        CheckpointError: the file is missing or is not a JSON object.
    """
    if not path.is_file():
        raise CheckpointError(
            f"the checkpoint has no {name}", "every part of diffusers' layout", "save the checkpoint with this part"
        )
    try:
        value = json.loads(path.read_bytes())
    except ValueError as fault:
        raise CheckpointError(f"{name} is not JSON ({fault})", "a JSON object", "save the part again") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{name} holds a {type(value).__name__}", "a JSON object", "save the part again")
    return value


def check_folder(path: Path) -> Path:
    """The path, checked to be a folder.

    Raises:
        CheckpointError: it is a single file, for which the message has the command that converts it, or is missing.
    """
    if path.is_file():
        raise CheckpointError(
            f"the checkpoint {path} is one file",
            "a folder in diffusers' layout",
            f"convert it: python -c \"from diffusers import StableDiffusionInpaintPipeline as P; P.from_single_file('{path.name}')"
            ".save_pretrained('checkpoint', safe_serialization=True)\"",
        )
    if not path.is_dir():
        raise CheckpointError(
            f"the checkpoint {path} is no folder", "a folder in diffusers' layout", "give the checkpoint's folder"
        )
    return path


def _read_shards(folder: Path, name: str, index: str) -> list[Path]:
    shards = read_json(folder / index, f"{name}/{index}").get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise CheckpointError(f"{name}/{index} has no `weight_map`", "a file for each key", "save the part again")
    paths = [folder / str(shard) for shard in sorted(set(shards.values()))]
    for path in paths:
        if path.parent != folder or not path.is_file():
            raise CheckpointError(f"{name}/ has no {path.name}", f"every shard of {index}", "copy the part again")
    return paths


def _no_weights(folder: Path, name: str, stem: str) -> CheckpointError:
    files = sorted(path.name for path in folder.iterdir() if path.is_file())
    pickles = [file for file in files if Path(file).suffix in _PICKLES]
    if pickles:
        return CheckpointError(f"{name}/ holds {pickles[0]}, a pickle, {_DANGER}", "safetensors", _convert_part(name))
    others = [file for file in files if file.endswith(".safetensors")]
    seen = f"{name}/ holds {others[0]} and no {stem}.safetensors" if others else f"{name}/ holds no weights"
    return CheckpointError(
        seen, f"{stem}.safetensors, its fp16 variant, or shards with their index", "save the part again"
    )


_DANGER: Final = "which may run code when it is loaded"


def _convert_part(name: str) -> str:
    library, kind = {
        "unet": ("diffusers", "UNet2DConditionModel"),
        "vae": ("diffusers", "AutoencoderKL"),
        "text_encoder": ("transformers", "CLIPTextModel"),
        "text_encoder_2": ("transformers", "CLIPTextModelWithProjection"),
        "image_encoder": ("transformers", "CLIPVisionModelWithProjection"),
    }[name]
    code = f"from {library} import {kind} as M; M.from_pretrained('{name}', use_safetensors=False).save_pretrained('{name}')"
    return f'where you trust it: python -c "{code}"'


def _convert_file(name: str) -> str:
    code = (
        f"import torch; from safetensors.torch import save_file; w = torch.load('{name}', weights_only=True); "
        "save_file({f'{a}.{b}': t for a, g in w.items() for b, t in g.items()} "
        f"if isinstance(next(iter(w.values())), dict) else w, '{Path(name).stem}.safetensors')"
    )
    return f'where you trust it: python -c "{code}"'
