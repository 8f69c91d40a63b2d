"""Textual Inversion (arXiv 2208.01618): adding the tokens of embedding files to tokenizer and text encoders."""

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
"""Keys that do not name the token; the token is then the name of the file."""
_FIRST_PIECE: Final = 0xE000
"""First of the private-use characters that stand for the vectors of a token with several."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenEmbedding:
    """A token and its trained embedding vectors.

    Args:
        token: The token, as users type it in a prompt.
        vectors: `[n,D]` f32 for each text encoder, by part.
        files: The files with the vectors.
        ids: The tokenizer's n ids of the token; empty until `add_tokens`.
    """

    token: str
    vectors: Mapping[str, torch.Tensor]
    files: tuple[Path, ...]
    ids: tuple[int, ...] = ()


def read_token_embeddings(embeddings: Sequence[EmbeddingFile], widths: Mapping[str, int]) -> tuple[TokenEmbedding, ...]:
    """The tokens of all files; vectors of one token in several files, one for each text encoder, are combined.

    Args:
        embeddings: The files.
        widths: Width D of each text encoder, by part.

    Raises:
        CheckpointError: vectors fit no text encoder, or a token has not the same number of vectors for each of them.
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
    token_embeddings = []
    for token, by_part in vectors.items():
        counts = {part: len(by_part[part]) if part in by_part else 0 for part in widths}
        if len(set(counts.values())) != 1:
            counts_text = ", ".join(f"{count} for {part}" for part, count in counts.items())
            raise CheckpointError(
                f"--embedding gives {token!r} {counts_text} vectors",
                "as many for each text encoder",
                "give the files of both encoders",
            )
        token_embeddings.append(TokenEmbedding(token=token, vectors=by_part, files=tuple(files[token])))
    return tuple(token_embeddings)


def add_tokens(tokenizer: Tokenizer, embeddings: Sequence[TokenEmbedding]) -> tuple[TokenEmbedding, ...]:
    """Add each token to the tokenizer, in place; return the embeddings with their ids.

    A token of one vector becomes one entry. A token of n vectors becomes n entries, which are private-use characters:
    the tokenizer's normalizer replaces the token by them, so that users type the token alone, as in diffusers.

    Raises:
        CheckpointError: a token is in the vocabulary already, or is empty.
    """
    from tokenizers import AddedToken, normalizers

    backend, piece, numbered = tokenizer.backend, _FIRST_PIECE, []
    replacements: list[tuple[str, str]] = []
    for embedding in embeddings:
        count = len(next(iter(embedding.vectors.values())))
        if not embedding.token.strip() or backend.token_to_id(embedding.token) is not None:
            raise CheckpointError(
                f"--embedding adds {embedding.token!r}, which the tokenizer has already",
                "a new token",
                "choose another token: --embedding FILE:TOKEN",
            )
        entries = [embedding.token]
        if count > 1:
            entries = [chr(piece + index) for index in range(count)]
            replacements.append((embedding.token, "".join(entries)))
            piece += count
        backend.add_tokens([AddedToken(entry, normalized=count > 1, special=False) for entry in entries])
        numbered.append(
            TokenEmbedding(
                token=embedding.token,
                vectors=embedding.vectors,
                files=embedding.files,
                ids=tuple(backend.token_to_id(entry) for entry in entries),
            )
        )
    if replacements:
        # The longest first: a token may be the beginning of another one.
        replacements.sort(key=lambda pair: -len(pair[0]))
        replacers = [normalizers.Replace(token, pieces) for token, pieces in replacements]
        backend.normalizer = normalizers.Sequence([*replacers, *backend.normalizer])
    return tuple(numbered)


def add_embeddings(encoder: Any, part: str, embeddings: Sequence[TokenEmbedding], end_id: int) -> None:
    """Write each token's vectors into the rows of its ids in a text encoder's embedding table, in place.

    Args:
        encoder: A CLIP text encoder; its embedding table grows by the new ids.
        part: The text encoder's part, `text_encoder` or `text_encoder_2`.
        embeddings: The embeddings with their ids.
        end_id: The id after the last token of a prompt.
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
    # With the eos_token_id 2 of published configs, transformers pools at the highest id of a prompt. That is the end
    # id, unless a new token has a higher one.
    encoder.config.eos_token_id = end_id
    for module in encoder.modules():
        if hasattr(module, "eos_token_id"):
            module.eos_token_id = end_id


def _part(path: Path, key: str, rows: torch.Tensor, widths: Mapping[str, int]) -> str:
    key_part = {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}.get(key)
    fitting = [part for part, width in widths.items() if width == rows.shape[1] and key_part in (None, part)]
    if not fitting:
        raise CheckpointError(
            f"--embedding {path.name} key {key} is {rows.shape[1]} wide",
            " or ".join(f"{width}, of {part}/" for part, width in widths.items()),
            "use an embedding that was trained on the checkpoint's base model",
        )
    return fitting[0]
