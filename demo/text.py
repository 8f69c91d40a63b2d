"""The demo's prompts, and a CLIP BPE tokenizer for the words of its attributes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

from demo.data import NAMES
from demo.model import TOKENS
from demo.rendering.render import ATTRIBUTES

START, END = "<|startoftext|>", "<|endoftext|>"


def make_prompt(attributes: NDArray[np.uint8], named: NDArray[np.uint8], rng: np.random.Generator | None = None) -> str:
    """Prompt such as `color: red; material: metal`; empty if no attribute is named.

    Args:
        attributes: [attributes] uint8, index of each attribute's value.
        named: [attributes], nonzero for attributes that the prompt names.
        rng: Random numbers that shuffle the attributes; None keeps their order.
    """
    pairs = [
        f"{name}: {ATTRIBUTES[name][value]}"
        for name, value, is_named in zip(NAMES, attributes, named, strict=True)
        if is_named
    ]
    if rng is not None:
        rng.shuffle(pairs)
    return "; ".join(pairs)


def build_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Token ids and merges in CLIP's layout.

    256 byte symbols, the same symbols with </w>, the tokens of one chain of merges per word, then the start and end tokens.
    """
    symbols = sorted(ByteLevel.alphabet())
    tokens = symbols + [symbol + "</w>" for symbol in symbols]
    merges: list[tuple[str, str]] = []
    for word in [*ATTRIBUTES, *(value for values in ATTRIBUTES.values() for value in values)]:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            pair = next((pair for pair in merges if pair in set(pairwise(parts))), (parts[0], parts[1]))
            if pair not in merges:
                merges.append(pair)
                tokens.append(pair[0] + pair[1])
            at = next(i for i in range(len(parts) - 1) if (parts[i], parts[i + 1]) == pair)
            parts[at : at + 2] = [pair[0] + pair[1]]
    tokens = [*dict.fromkeys(tokens), START, END]
    return {token: index for index, token in enumerate(tokens)}, merges


def make_tokenizer() -> Any:
    """The tokenizer, as an instance of transformers' `CLIPTokenizer`."""
    vocab, merges = build_vocabulary()
    return CLIPTokenizer(
        vocab=vocab,
        merges=merges,
        model_max_length=TOKENS,
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=END,
    )


def encode(tokenizer: Any, prompts: list[str]) -> NDArray[np.int64]:
    """Token ids [N,32] of prompts, padded with the end token as in CLIP."""
    return np.asarray(tokenizer(prompts, padding="max_length", max_length=TOKENS)["input_ids"], np.int64)


if __name__ == "__main__":
    import sys

    make_tokenizer().save_pretrained(Path(sys.argv[1]))
