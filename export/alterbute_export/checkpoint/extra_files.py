"""Files from outside the checkpoint folder that the command line names: adapter, embeddings and LoRA files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alterbute_export.checkpoint.layout import check_weights_file
from alterbute_export.errors import CheckpointError


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """A LoRA file and the factor with which it is merged."""

    path: Path
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingFile:
    """A Textual Inversion file, and the token of its embedding; None takes the token from the file."""

    path: Path
    token: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraFiles:
    """Files from outside the checkpoint folder.

    Args:
        adapter: An IP-Adapter file; None takes the one at the top of the folder, if any.
        image_encoder: Folder of the adapter's image encoder; None takes `image_encoder/`.
        embeddings: Textual Inversion files.
        loras: LoRA files, merged in this order.
    """

    adapter: Path | None = None
    image_encoder: Path | None = None
    embeddings: tuple[EmbeddingFile, ...] = ()
    loras: tuple[Lora, ...] = ()


def read_extra_files(
    *,
    adapter: Path | None = None,
    image_encoder: Path | None = None,
    embeddings: Sequence[str] = (),
    loras: Sequence[str] = (),
) -> ExtraFiles:
    """Parse the command line's file arguments; every weights file is opened once, so that a bad one is refused early.

    Args:
        adapter: An IP-Adapter file; None takes the one at the top of the checkpoint folder, if any.
        image_encoder: Folder of the adapter's image encoder; None takes `image_encoder/`.
        embeddings: `FILE` or `FILE:TOKEN`.
        loras: `FILE` or `FILE:WEIGHT`; the weight is 1 where it is left out.

    Raises:
        CheckpointError: a file is missing, a pickle or damaged, or a weight is not a number.
    """
    return ExtraFiles(
        adapter=adapter and check_weights_file(adapter, "--adapter"),
        image_encoder=image_encoder,
        embeddings=tuple(_read_embedding(argument) for argument in embeddings),
        loras=tuple(_read_lora(argument) for argument in loras),
    )


def _read_embedding(argument: str) -> EmbeddingFile:
    name, token = _split(argument)
    return EmbeddingFile(path=check_weights_file(Path(name), "--embedding"), token=token)


def _read_lora(argument: str) -> Lora:
    name, weight = _split(argument)
    path = check_weights_file(Path(name), "--lora")
    try:
        value = 1.0 if weight is None else float(weight)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise CheckpointError(f"--lora {path.name} has the weight {weight!r}", "a number", "write FILE:0.8")
    return Lora(path=path, weight=value)


def _split(argument: str) -> tuple[str, str | None]:
    """Split `FILE:VALUE` into file and value; a file whose own name has a colon is not split."""
    name, colon, value = argument.rpartition(":")
    return (name, value) if colon and not Path(argument).exists() and name else (argument, None)
