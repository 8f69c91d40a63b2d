"""What the user adds to a checkpoint folder on the command line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alterbute_export.checkpoint.layout import check_weights_file
from alterbute_export.errors import CheckpointError


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """A LoRA file and how strongly it is merged."""

    path: Path
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingFile:
    """A Textual Inversion file, and the token that it teaches if the file does not say."""

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
    """The command line's words as Extras; every file is opened once.

    Args:
        adapter: As of `ExtraFiles`.
        image_encoder: As of `ExtraFiles`.
        embeddings: `FILE` or `FILE:TOKEN`.
        loras: `FILE` or `FILE:WEIGHT`; the weight is 1 if it is not given.

    Raises:
        CheckpointError: a file is missing, a pickle or damaged, or a weight is no number.
    """
    return ExtraFiles(
        adapter=adapter and check_weights_file(adapter, "--adapter"),
        image_encoder=image_encoder,
        embeddings=tuple(_read_embedding(words) for words in embeddings),
        loras=tuple(_read_lora(words) for words in loras),
    )


def _read_embedding(words: str) -> EmbeddingFile:
    name, token = _split(words)
    return EmbeddingFile(path=check_weights_file(Path(name), "--embedding"), token=token)


def _read_lora(words: str) -> Lora:
    name, weight = _split(words)
    path = check_weights_file(Path(name), "--lora")
    try:
        value = 1.0 if weight is None else float(weight)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise CheckpointError(f"--lora {path.name} has the weight {weight!r}", "a number", "write FILE:0.8")
    return Lora(path=path, weight=value)


def _split(words: str) -> tuple[str, str | None]:
    """`FILE:WORD`; a file whose own name has a colon is taken as it is."""
    name, colon, word = words.rpartition(":")
    return (name, word) if colon and not Path(words).exists() and name else (words, None)
