"""Reading a checkpoint folder: diffusers' layout, safetensors only, nothing missing and nothing guessed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
from alterbute.bundle import Json
from safetensors import SafetensorError, safe_open
from torch import nn

from alterbute_export.errors import CheckpointError
from alterbute_export.settings import Settings, read_settings

Storage = Literal["auto", "fp16", "fp32"]

ADAPTER_FILE: Final = "ip_adapter.safetensors"
MODEL_PARTS: Final = ("unet", "vae", "text_encoder", "image_encoder")
PREDICTION_TYPES: Final = ("epsilon", "v_prediction", "sample")
_PICKLES: Final = (".bin", ".ckpt", ".pt", ".pth")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint folder whose files are all there and readable; models are loaded on request.

    `half_storage` says that weights go to the bundle as fp16: they were fp16 on disk, or the user asked for it.
    """

    path: Path
    settings: Settings
    scheduler: Mapping[str, Json]
    weight_files: tuple[Path, ...]
    half_storage: bool

    def load(self, part: str) -> Any:
        """The model of one part (`unet`, ...) in fp32 and eval mode, every weight of it from the files.

        Raises:
            CheckpointError: a key is missing, unknown or of another shape than the part's config says.
        """
        model = _load_model(self.path, part)
        return self.settle(model)

    def load_adapter(self) -> dict[str, torch.Tensor]:
        """The tensors of `ip_adapter.safetensors` in fp32, under their published names."""
        with _open_weights(self.path / ADAPTER_FILE) as file:
            return {name: self._round(file.get_tensor(name)) for name in sorted(file.keys())}

    def settle(self, model: nn.Module) -> nn.Module:
        """Round weights as the bundle will store them, so that parity is measured against what is shipped."""
        for parameter in model.parameters():
            parameter.requires_grad_(False)
            parameter.copy_(self._round(parameter))
        return model.eval()

    def _round(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.half().float() if self.half_storage else tensor.float()


def read_checkpoint(path: str | Path, storage: Storage = "auto") -> Checkpoint:
    """Check the folder's files and read its settings, without loading a model.

    Raises:
        CheckpointError: the folder, a file or a key is missing or wrong; it is named.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise CheckpointError(
            f"the checkpoint {folder} is no folder", "a folder in diffusers' layout", "give the checkpoint's folder"
        )
    settings = read_settings(folder)
    read_json(folder, "model_index.json")
    weights: list[Path] = []
    for part in MODEL_PARTS:
        read_json(folder, f"{part}/config.json")
        weights += _weight_files(folder, part)
    weights += [_existing(folder, ADAPTER_FILE)] if settings.family == "adapter" else []
    return Checkpoint(
        path=folder,
        settings=settings,
        scheduler=_read_scheduler(folder),
        weight_files=tuple(weights),
        half_storage=storage == "fp16" or (storage == "auto" and _are_half(weights)),
    )


def hash_weights(checkpoint: Checkpoint) -> dict[str, str]:
    """SHA-256 of each weights file, by its name inside the checkpoint."""
    hashes = {}
    for path in checkpoint.weight_files:
        with path.open("rb") as file:
            hashes[path.relative_to(checkpoint.path).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object of the checkpoint.

    Raises:
        CheckpointError: the file is missing or is no JSON object.
    """
    path = _existing(folder, name)
    try:
        value = json.loads(path.read_bytes())
    except ValueError as fault:
        raise CheckpointError(f"{name} is not JSON ({fault})", "a JSON object", "save the part again") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{name} holds a {type(value).__name__}", "a JSON object", "save the part again")
    return value


def _existing(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise CheckpointError(
            f"the checkpoint has no {name}", "every part of diffusers' layout", "save the checkpoint with this part"
        )
    return folder / name


def _read_scheduler(folder: Path) -> dict[str, Json]:
    name = "scheduler/scheduler_config.json"
    config: dict[str, Json] = read_json(folder, name)
    kind = config.get("prediction_type")
    if kind not in PREDICTION_TYPES:
        raise CheckpointError(
            f"{name} key `prediction_type` is {kind!r}", " or ".join(PREDICTION_TYPES), "correct the scheduler's config"
        )
    # DPM-Solver's default, which diffusers writes as -Infinity: JSON has no such number.
    return {key: None if value == -math.inf else value for key, value in config.items()}


def _weight_files(folder: Path, part: str) -> list[Path]:
    """The safetensors files of a part; each must open."""
    files = sorted((folder / part).glob("*.safetensors"))
    if not files:
        pickles = [path.name for path in sorted((folder / part).iterdir()) if path.suffix in _PICKLES]
        if pickles:
            raise CheckpointError(
                f"{part}/ holds {pickles[0]}, a pickle, which may run code when it is loaded",
                "safetensors",
                "load it where you trust it and save it with save_pretrained(..., safe_serialization=True)",
            )
        raise CheckpointError(f"{part}/ holds no weights", "a .safetensors file", "save the part again")
    for path in files:
        with _open_weights(path):
            pass
    return files


def _open_weights(path: Path) -> Any:
    try:
        return safe_open(str(path), framework="pt")
    except (SafetensorError, OSError) as fault:
        name = f"{path.parent.name}/{path.name}"
        raise CheckpointError(f"{name} cannot be read ({fault})", "a safetensors file", "copy it again") from None


def _are_half(paths: list[Path]) -> bool:
    """Whether every floating-point tensor is fp16 on disk."""
    for path in paths:
        with _open_weights(path) as file:
            names: list[str] = file.keys()
            kinds = {file.get_slice(name).get_dtype() for name in names}
        if kinds & {"F32", "F64", "BF16"}:
            return False
    return True


def _load_model(folder: Path, part: str) -> nn.Module:
    from alterbute_export.parts import part_class, quiet_loading

    kind = part_class(part, read_json(folder, f"{part}/config.json"))
    with quiet_loading():
        try:
            model, report = kind.from_pretrained(
                folder / part,
                local_files_only=True,
                use_safetensors=True,
                torch_dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
        except (ValueError, TypeError, RuntimeError, OSError) as fault:
            raise CheckpointError(
                f"{part}/ cannot be loaded ({fault})", f"a {kind.__name__}", "save the part again"
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
                f"{part}/ {seen} key {known[0]}{more}",
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
