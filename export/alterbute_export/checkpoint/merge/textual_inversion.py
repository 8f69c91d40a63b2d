"""Textual Inversion (arXiv 2208.01618): a word whose vectors are in a file becomes an entry of tokenizer and encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from alterbute_export.checkpoint.extra_files import EmbeddingFile
from alterbute_export.checkpoint.layout import open_weights
from alterbute_export.checkpoint.tokenizer import Tokenizer
from alterbute_export.errors import CheckpointError

_NAMELESS: Final = ("emb_params", "clip_l", "clip_g")
"""Keys that say nothing of the token: the file's name is it then."""
_FIRST_PIECE: Final = 0xE000
"""Private-use characters stand for the vectors of a word that has several."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenEmbedding:
    """A word to learn.

    Args:
        token: The word, as users type it.
        vectors: `[n,D]` for each text encoder, by part.
        files: Where they came from.
        ids: What the tokenizer gives for it; empty until it was taught.
    """

    token: str
    vectors: Mapping[str, torch.Tensor]
    files: tuple[Path, ...]
    ids: tuple[int, ...] = ()


def read_token_embeddings(embeddings: Sequence[EmbeddingFile], widths: Mapping[str, int]) -> tuple[TokenEmbedding, ...]:
    """The words of all files; files of one word, one for each text encoder, are put together.

    Args:
        embeddings: The files.
        widths: Width of each text encoder, by part.

    Raises:
        CheckpointError: vectors fit no encoder, or an encoder has none.
    """
    vectors: dict[str, dict[str, torch.Tensor]] = {}
    files: dict[str, list[Path]] = {}
    for embedding in embeddings:
        with open_weights(embedding.path) as file:
            tensors = {key: file.get_tensor(key).float() for key in sorted(file.keys())}
        for key, tensor in tensors.items():
            token = embedding.token or (embedding.path.stem if key in _NAMELESS else key)
            rows = tensor.reshape(-1, tensor.shape[-1]) if tensor.ndim else tensor.reshape(1, 1)
            vectors.setdefault(token, {})[_part(embedding.path, key, rows, widths)] = rows
            if embedding.path not in files.setdefault(token, []):
                files[token].append(embedding.path)
    learned = []
    for token, found in vectors.items():
        counts = {part: len(found[part]) if part in found else 0 for part in widths}
        if len(set(counts.values())) != 1:
            seen = ", ".join(f"{count} for {part}" for part, count in counts.items())
            raise CheckpointError(
                f"--embedding gives {token!r} {seen} vectors",
                "as many for each text encoder",
                "give the files of both encoders",
            )
        learned.append(TokenEmbedding(token=token, vectors=found, files=tuple(files[token])))
    return tuple(learned)


def add_tokens(tokenizer: Tokenizer, embeddings: Sequence[TokenEmbedding]) -> tuple[TokenEmbedding, ...]:
    """Add each word to the tokenizer, in place; returns the lessons with their ids.

    A word of one vector is one entry. A word of several is replaced by as many private-use characters when text is
    normalised, and these are the entries: users type the word, as with diffusers.

    Raises:
        CheckpointError: a word is in the vocabulary already, or is empty.
    """
    from tokenizers import AddedToken, normalizers

    backend, piece, taught = tokenizer.backend, _FIRST_PIECE, []
    replacements: list[tuple[str, str]] = []
    for embedding in embeddings:
        count = len(next(iter(embedding.vectors.values())))
        if not embedding.token.strip() or backend.token_to_id(embedding.token) is not None:
            raise CheckpointError(
                f"--embedding teaches {embedding.token!r}, which the tokenizer has already",
                "a new word",
                "name it otherwise: --embedding FILE:TOKEN",
            )
        entries = [embedding.token]
        if count > 1:
            entries = [chr(piece + index) for index in range(count)]
            replacements.append((embedding.token, "".join(entries)))
            piece += count
        backend.add_tokens([AddedToken(entry, normalized=count > 1, special=False) for entry in entries])
        taught.append(
            TokenEmbedding(
                token=embedding.token,
                vectors=embedding.vectors,
                files=embedding.files,
                ids=tuple(backend.token_to_id(entry) for entry in entries),
            )
        )
    if replacements:
        # The longest first: a word may begin another.
        replacements.sort(key=lambda pair: -len(pair[0]))
        words = [normalizers.Replace(word, pieces) for word, pieces in replacements]
        backend.normalizer = normalizers.Sequence([*words, *backend.normalizer])
    return tuple(taught)


def add_embeddings(encoder: Any, part: str, embeddings: Sequence[TokenEmbedding], end_id: int) -> None:
    """Put each word's vectors where its ids are, in place.

    Args:
        encoder: A CLIP text encoder.
        part: Which.
        lessons: With their ids.
        end_id: The id that ends a prompt.
    """
    if not embeddings:
        return
    table = encoder.get_input_embeddings()
    size = max(table.num_embeddings, 1 + max(index for embedding in embeddings for index in embedding.ids))
    grown = torch.zeros(size, table.embedding_dim)
    with torch.no_grad():
        grown[: table.num_embeddings] = table.weight
        for embedding in embeddings:
            grown[list(embedding.ids)] = embedding.vectors[part]
    encoder.set_input_embeddings(nn.Embedding.from_pretrained(grown))
    encoder.config.vocab_size = size
    # Configs of published encoders say that the highest id is the end of a prompt, which a new word's is not.
    encoder.config.eos_token_id = end_id
    for module in encoder.modules():
        if hasattr(module, "eos_token_id"):
            module.eos_token_id = end_id


def _part(path: Path, key: str, rows: torch.Tensor, widths: Mapping[str, int]) -> str:
    named = {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}.get(key)
    fitting = [part for part, width in widths.items() if width == rows.shape[1] and named in (None, part)]
    if not fitting:
        raise CheckpointError(
            f"--embedding {path.name} key {key} is {rows.shape[1]} wide",
            " or ".join(f"{width}, of {part}/" for part, width in widths.items()),
            "use an embedding that was trained on the checkpoint's base model",
        )
    return fitting[0]
