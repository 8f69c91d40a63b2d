"""A CLIP tokenizer with a vocabulary of single bytes and a few whole words, in the published file formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

_START, _END = "<|startoftext|>", "<|endoftext|>"
_MERGES: Final = (("r", "e"), ("re", "d</w>"), ("b", "l"), ("bl", "u"), ("blu", "e</w>"))


def make_tokenizer(tokens: int, *, entries: int = 0) -> Any:
    """A `CLIPTokenizer` of transformers.

    Args:
        tokens: Tokens of the longest prompt.
        entries: Size of its vocabulary, reached by entries that no text produces; 0 for the smallest vocabulary.
    """
    from transformers import CLIPTokenizer

    return CLIPTokenizer(vocab=_vocabulary(entries), merges=list(_MERGES), model_max_length=tokens)


def write_tokenizer_files(folder: Path, tokens: int, *, entries: int, pad: str) -> int:
    """Write a tokenizer as `vocab.json`, `merges.txt` and their configs; return the size of its vocabulary.

    Args:
        folder: The tokenizer's folder.
        tokens: Tokens of the longest prompt.
        entries: Size of its vocabulary, reached by entries that no text produces; 0 for the smallest vocabulary.
        pad: The padding token; `!` in SD 2.1 and in SDXL's second tokenizer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = _vocabulary(entries)
    merges = "#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in _MERGES)
    special = {"bos_token": _START, "eos_token": _END, "pad_token": pad, "unk_token": _END}
    config = {**special, "tokenizer_class": "CLIPTokenizer", "model_max_length": tokens, "add_prefix_space": False}
    (folder / "merges.txt").write_text(merges, encoding="utf-8")
    for name, value in (
        ("vocab.json", vocabulary),
        ("special_tokens_map.json", special),
        ("tokenizer_config.json", config),
    ):
        (folder / name).write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return len(vocabulary)


def _vocabulary(entries: int) -> dict[str, int]:
    """Id of each entry in CLIP's order: bytes, merges, unused entries, start and end token."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    symbols = letters + [letter + "</w>" for letter in letters]
    symbols += [left + right for left, right in _MERGES]
    symbols += [f"<filling-{index}>" for index in range(len(symbols), entries - 2)]
    symbols += [_START, _END]
    return {symbol: index for index, symbol in enumerate(symbols)}
