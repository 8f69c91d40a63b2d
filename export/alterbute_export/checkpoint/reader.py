"""Reading a checkpoint folder in diffusers' layout; every file is checked before a model is loaded."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
from alterbute.bundle import Json
from alterbute.errors import BundleError
from alterbute.solver.scheduler_config import parse_scheduler_config
from torch import nn

from alterbute_export.checkpoint.extra_files import ExtraFiles
from alterbute_export.checkpoint.infer_settings import infer_settings
from alterbute_export.checkpoint.ip_adapter_file import AdapterFile, read_adapter
from alterbute_export.checkpoint.layout import (
    Part,
    check_folder,
    find_adapter,
    find_part,
    is_stored_fp16,
    open_weights,
    read_json,
)
from alterbute_export.checkpoint.merge.lora import LoraFile, check_parts, merge_lora, read_lora
from alterbute_export.checkpoint.settings import CheckpointSettings, build_settings, read_overrides
from alterbute_export.errors import CheckpointError

Storage = Literal["auto", "fp16", "fp32"]

_SCHEDULER: Final = "scheduler/scheduler_config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint folder whose files were checked; models are loaded on request.

    Args:
        path: The folder.
        settings: Family, scene, resolution, guidance and defaults.
        scheduler: The scheduler's config, verbatim.
        parts: Weights files of each model, by part (`unet`, `vae`, `text_encoder`, ...).
        configs: `config.json` of each model, by part.
        index: Content of model_index.json.
        adapter: The IP-Adapter file of family `adapter`, else None.
        extras: Files from outside the folder.
        loras: LoRA files to merge, in order.
        half_storage: Whether the bundle stores fp16 weights, because the files are fp16 or `storage` is "fp16".
    """

    path: Path
    settings: CheckpointSettings
    scheduler: Mapping[str, Json]
    parts: Mapping[str, Part]
    configs: Mapping[str, Mapping[str, Any]]
    index: Mapping[str, Any]
    adapter: AdapterFile | None
    extras: ExtraFiles
    loras: tuple[LoraFile, ...]
    half_storage: bool

    def load(self, part: str) -> Any:
        """Load the model of one part (`unet`, ...) in fp32 and eval mode.

        LoRA files are merged into its weights, which are then rounded to the type in which the bundle stores them.

        Raises:
            CheckpointError: a key is missing, unknown or of another shape than in the model of the part's config.
        """
        from alterbute_export.checkpoint.load_model import load_part

        model = load_part(self.parts[part], self.configs[part])
        for lora in self.loras:
            merge_lora(lora, part, model)
        return self.freeze_weights(model)

    def load_meta(self, part: str) -> Any:
        """The meta model of one part, checked against the keys and shapes of its files.

        Raises:
            CheckpointError: a key is missing, unknown or of another shape than in the model of the part's config.
        """
        from alterbute_export.checkpoint.load_model import check_part

        return check_part(self.parts[part], self.configs[part])

    def load_adapter(self, prefix: str = "") -> dict[str, torch.Tensor]:
        """Load the fp32 tensors of the adapter file whose published names begin with `prefix`, by name."""
        assert self.adapter is not None
        with open_weights(self.adapter.path) as file:
            names = sorted(name for name in file.keys() if name.startswith(prefix))
            return {name: self._round(file.get_tensor(name)) for name in names}

    def freeze_weights(self, model: nn.Module) -> nn.Module:
        """Put a model into eval mode without gradients, and round its weights to the type that the bundle stores.

        Rounding first makes parity a comparison with the weights that are shipped. The model is changed in place.
        """
        for parameter in model.parameters():
            parameter.requires_grad_(False)
            if self.half_storage:
                parameter.copy_(self._round(parameter))
        return model.eval()

    def _round(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.half().float() if self.half_storage else tensor.float()


def read_checkpoint(path: str | Path, storage: Storage = "auto", extras: ExtraFiles | None = None) -> Checkpoint:
    """Check a checkpoint's files and infer its settings, without loading a model.

    Args:
        path: A folder in diffusers' layout.
        storage: Storage type of the weights: "fp16", "fp32", or "auto" for fp16 where all files are fp16.
        extras: Files from outside the folder.

    Raises:
        CheckpointError: the folder, a file or a key is missing or invalid; the message names it.
    """
    folder, extras = check_folder(Path(path)), extras or ExtraFiles()
    index = read_json(folder / "model_index.json", "model_index.json")
    overrides = read_overrides(folder)
    adapter_path = extras.adapter or find_adapter(folder)
    adapter = read_adapter(adapter_path) if adapter_path else None
    names = ["unet", "vae", "text_encoder"]
    names += ["text_encoder_2"] if (index.get("text_encoder_2") or [None])[0] else []
    parts = {name: find_part(folder / name, name) for name in names}
    if adapter is not None:
        parts["image_encoder"] = _find_image_encoder(folder, extras, adapter)
    elif extras.image_encoder is not None:
        raise CheckpointError(
            f"--image-encoder {extras.image_encoder.name} was given, and there is no adapter",
            "an adapter with it",
            "give --adapter FILE, too",
        )
    configs = {name: read_json(part.folder / "config.json", part.config_name) for name, part in parts.items()}
    scheduler = _read_scheduler(folder)
    inferred = infer_settings(
        folder,
        index=index,
        unet=configs["unet"],
        vae=configs["vae"],
        image_encoder=configs.get("image_encoder"),
        scheduler=scheduler,
        adapter=adapter,
        overrides=overrides,
    )
    if overrides.get("family", inferred["family"]) == "adapter" and adapter is None:
        raise CheckpointError(
            "the checkpoint has no ip_adapter.safetensors, and its family is adapter",
            "an IP-Adapter file at its top",
            "put it there, or give --adapter FILE and --image-encoder DIR",
        )
    settings = build_settings(inferred, overrides)
    if settings.family != "adapter":
        _refuse_adapter_argument(settings, extras)
        adapter = None
        parts.pop("image_encoder", None)
    loras = tuple(read_lora(lora.path, lora.weight) for lora in extras.loras)
    for lora in loras:
        check_parts(lora, parts)
    files = [file for part in parts.values() for file in part.files] + ([adapter.path] if adapter else [])
    return Checkpoint(
        path=folder,
        settings=settings,
        scheduler=scheduler,
        parts=parts,
        configs=configs,
        index=index,
        adapter=adapter,
        extras=extras,
        loras=loras,
        half_storage=storage == "fp16" or (storage == "auto" and is_stored_fp16(tuple(files))),
    )


def hash_weights(checkpoint: Checkpoint) -> dict[str, str]:
    """SHA-256 of each weights file, by `part/file name`, so that no path of this machine gets into the bundle."""
    names = {f"{name}/{file.name}": file for name, part in checkpoint.parts.items() for file in part.files}
    if checkpoint.adapter is not None:
        names[checkpoint.adapter.name] = checkpoint.adapter.path
    return {name: hash_file(path) for name, path in names.items()}


def hash_file(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _find_image_encoder(folder: Path, extras: ExtraFiles, adapter: AdapterFile) -> Part:
    encoder_folder = extras.image_encoder or folder / "image_encoder"
    if not (encoder_folder / "config.json").is_file():
        raise CheckpointError(
            f"there is an adapter, {adapter.name}, and no image_encoder/config.json",
            "the image encoder that the adapter was trained with",
            "put it into image_encoder/, or give --image-encoder DIR",
        )
    return find_part(encoder_folder, "image_encoder")


def _refuse_adapter_argument(settings: CheckpointSettings, extras: ExtraFiles) -> None:
    if extras.adapter is not None:
        raise CheckpointError(
            f"--adapter {extras.adapter.name} was given, and the checkpoint's family is {settings.family}",
            "family adapter",
            "leave --adapter out, or use an inpainting or text-to-image checkpoint",
        )


def _read_scheduler(folder: Path) -> dict[str, Json]:
    """The scheduler's config, verbatim; keys that no solver supports are refused."""
    config: dict[str, Json] = read_json(folder / _SCHEDULER, _SCHEDULER)
    try:
        parse_scheduler_config(config)
    except BundleError as fault:
        raise CheckpointError(f"{_SCHEDULER}: {fault.seen}", fault.expected, fault.fix) from None
    # DPM-Solver's default of `lambda_min_clipped`, which diffusers writes as -Infinity, is not valid JSON.
    return {key: None if value == -math.inf else value for key, value in config.items()}
