"""Prompts: CLIP's ids, no silent truncation, and messages that name unknown words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from alterbute.encode.prompt import (
    MAX_PROMPT_BYTES,
    PromptTokenizer,
    check_attributes,
    unknown_words,
    vocabulary_warning,
)
from alterbute.errors import BundleError, InputError
from hypothesis import given
from hypothesis import strategies as st

VOCABULARY = {"color": ("red", "blue"), "material": ("metal", "matte plastic")}


def tokenizer_json() -> bytes:
    """A CLIP-shaped byte-level BPE whose only merges are single letters: ids are easy to count."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    model = models.BPE(vocab=vocabulary, merges=[], end_of_word_suffix="</w>", unk_token="<|endoftext|>")
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=77)
    return tokenizer.to_str().encode()


@pytest.fixture(scope="module")
def tokenizer() -> PromptTokenizer:
    return PromptTokenizer.from_bytes(tokenizer_json(), tokens=12, start_id=0, end_id=1, pad_id=1)


def test_ids_fill_the_window_between_start_end_and_padding(tokenizer: PromptTokenizer) -> None:
    ids = tokenizer.encode(["", "red", "exactly10c"])
    assert ids.shape == (3, 12)
    assert ids.dtype == np.int64
    assert ids[0].tolist() == [0] + [1] * 11
    assert (ids[1] == 1).sum() == 8
    assert (ids[2] == 1).sum() == 1


def test_ids_are_those_of_the_checkpoints_own_tokenizer(tmp_path: Path) -> None:
    pytest.importorskip("diffusers", reason="the exporter is not installed")
    from tests.support.checkpoints import make_tokenizer

    checkpoint_tokenizer = make_tokenizer(40)
    checkpoint_tokenizer.save_pretrained(tmp_path)
    tokenizer = PromptTokenizer.from_bytes(
        (tmp_path / "tokenizer.json").read_bytes(),
        tokens=40,
        start_id=checkpoint_tokenizer.bos_token_id,
        end_id=checkpoint_tokenizer.eos_token_id,
        pad_id=checkpoint_tokenizer.pad_token_id,
    )
    prompts = ["", "color: red; material: metal", "A  Shiny\tMUG, 7 of them!", "caf\u00e9 \u8d64 \U0001f600"]
    assert np.array_equal(
        tokenizer.encode(prompts), checkpoint_tokenizer(prompts, padding="max_length", return_tensors="np")["input_ids"]
    )


def test_a_prompt_over_the_window_is_refused_with_both_counts(tokenizer: PromptTokenizer) -> None:
    with pytest.raises(InputError, match="11 tokens long; expected at most 10"):
        tokenizer.encode(["elevenchars"])


def test_a_prompt_cannot_contain_the_end_token(tokenizer: PromptTokenizer) -> None:
    with pytest.raises(InputError, match="13 tokens"):
        tokenizer.encode(["<|endoftext|>"])


@pytest.mark.parametrize("prompt", ["x" * (MAX_PROMPT_BYTES + 1), "\ud800", 7, None, b"red"])
def test_invalid_text_is_refused(tokenizer: PromptTokenizer, prompt: str) -> None:
    with pytest.raises(InputError, match="the prompt"):
        tokenizer.encode([prompt])


@given(st.text(max_size=30))
def test_any_text_becomes_ids_or_an_input_error(prompt: str) -> None:
    tokenizer = PromptTokenizer.from_bytes(TOKENIZER, tokens=12, start_id=0, end_id=1, pad_id=1)
    try:
        ids = tokenizer.encode([prompt])
    except InputError as fault:
        assert fault.param == "prompt"
    else:
        assert ids.shape == (1, 12)


TOKENIZER = tokenizer_json()


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", json.dumps({"model": 1}).encode()])
def test_a_broken_tokenizer_is_a_bundle_error(data: bytes) -> None:
    with pytest.raises(BundleError, match="tokenizer"):
        PromptTokenizer.from_bytes(data, tokens=12, start_id=0, end_id=1, pad_id=1)


@pytest.mark.parametrize(
    ("prompt", "unknown"),
    [
        ("color: red; material: matte plastic", ()),
        ("Color: RED ;", ()),
        ("color: puce; glow: yes; color: red", ("puce", "glow")),
        ("color: metal", ("metal",)),
        ("red shiny mug", ("shiny", "mug")),
        ("", ()),
        (";;:", ()),
    ],
)
def test_words_outside_the_vocabulary_are_named(prompt: str, unknown: tuple[str, ...]) -> None:
    assert unknown_words(prompt, VOCABULARY) == unknown
    assert unknown_words(prompt, None) == ()


def test_an_unknown_attribute_is_refused_and_an_unknown_value_is_not() -> None:
    for prompt in ("color: puce", "a red mug", "", "color: red; material: metal"):
        check_attributes(prompt, VOCABULARY)
    check_attributes("glow: yes", None)
    with pytest.raises(InputError, match=r"'glow'.*color: red, blue") as fault:
        check_attributes("color: red; glow: yes", VOCABULARY)
    assert fault.value.code == "prompt_attribute_unknown"


def test_the_warning_lists_the_unknown_words_and_the_vocabulary() -> None:
    assert vocabulary_warning("color: red", VOCABULARY) is None
    warning = vocabulary_warning("color: puce", VOCABULARY)
    assert warning is not None
    assert "'puce'" in warning
    assert "color: red, blue" in warning
