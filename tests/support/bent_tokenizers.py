"""Tokenizer files that are bent in one place each; those in comments crashed or hung the tokenizers library."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any


def bent_tokenizers(sound: bytes) -> Iterator[tuple[str, bytes]]:
    """What is bent, and the file's bytes.

    Args:
        sound: A sound tokenizer.json of CLIP's kind.
    """
    document = json.loads(sound)

    def change(**values: Any) -> bytes:
        return json.dumps({**document, **values}).encode()

    for name, normalizer in _normalizers().items():
        yield f"normalizer {name}", change(normalizer=normalizer)
        both = {"type": "Sequence", "normalizers": [*document["normalizer"]["normalizers"], normalizer]}
        yield f"normalizer {name} behind CLIP's", change(normalizer=both)
    for name, splitter in _splitters().items():
        yield f"pre-tokenizer {name}", change(pre_tokenizer=splitter)
        steps = [*document["pre_tokenizer"]["pretokenizers"], splitter]
        both = {"type": "Sequence", "pretokenizers": steps}
        yield f"pre-tokenizer {name} behind CLIP's", change(pre_tokenizer=both)
    for name, model in _models(document["model"]).items():
        yield f"model {name}", change(model=model)
    for name, tokens in _added(document["added_tokens"]).items():
        yield f"added tokens: {name}", change(added_tokens=tokens)
    yield "no model", json.dumps({k: v for k, v in document.items() if k != "model"}).encode()
    yield "version 2.0", change(version="2.0")
    yield "unknown key", change(extra=1)
    yield "nested 100 deep", change(padding=_nest(100))
    yield "byte order mark", b"\xef\xbb\xbf" + sound
    yield "not JSON", b"\0" * 100
    yield "a list", b"[]"
    yield "empty", b""
    yield "cut", sound[: len(sound) // 2]
    yield "key twice", sound.replace(b"{", b'{"version": "1.0",', 1)


def _normalizers() -> dict[str, Any]:
    def replace(pattern: str, content: str) -> dict[str, Any]:
        return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}

    return {
        "none": None,
        "NFKC": {"type": "NFKC"},
        "Precompiled garbage": {
            "type": "Precompiled",
            "precompiled_charsmap": base64.b64encode(b"x" * 64).decode(),
        },  # panic
        "catastrophic regex": replace(r"(a|a)*(b|b)*c", "x"),
        "growing replacements": {"type": "Sequence", "normalizers": [replace("a", "a" * 10)] * 10},  # 10^10 bytes
        "empty pattern": {"type": "Replace", "pattern": {"String": ""}, "content": "x" * 1000},
        "Prepend": {"type": "Prepend", "prepend": "x" * 100_000},
        "Bert": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "ByteLevel": {"type": "ByteLevel"},
        "unknown": {"type": "Unheard"},
        "number": 7,
    }


def _splitters() -> dict[str, Any]:
    def split(pattern: str) -> dict[str, Any]:
        return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Removed", "invert": True}

    return {
        "none": None,
        "catastrophic regex": split(r"(x+x+)+y"),
        "malformed regex": split("("),
        "lookbehind": split(r"(?<=a+)b"),
        "Whitespace": {"type": "Whitespace"},
        "Metaspace": {"type": "Metaspace", "replacement": "__", "prepend_scheme": "always", "split": True},
        "Digits": {"type": "Digits", "individual_digits": True},
        "ByteLevel with a space": {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        },
        "unknown": {"type": "Unheard"},
        "number": 7,
    }


def _models(model: Any) -> dict[str, Any]:
    vocabulary = model["vocab"]
    first, second = list(vocabulary)[:2]
    changes: dict[str, dict[str, Any]] = {
        "unknown token that is not there": {"unk_token": "nowhere"},
        "dropout": {"dropout": 0.5},
        "dropout of 2": {"dropout": 2},
        "prefix": {"continuing_subword_prefix": "##"},
        "long suffix": {"end_of_word_suffix": "x" * 100_000},
        "fuse_unk": {"fuse_unk": True},
        "byte_fallback": {"byte_fallback": True},
        "ignore_merges": {"ignore_merges": True},
        "merge of tokens that are not there": {"merges": [["nowhere", "never"]]},
        "merge whose result is not there": {"merges": [[first, second]]},
        "merge of three": {"merges": [[first, second, first]]},
        "merge of one": {"merges": ["x"]},
        "merge of numbers": {"merges": [[1, 2]]},
        "merge of nothing": {"merges": [["", ""]]},
        "merges twice": {"merges": model["merges"] * 2},
        "merges that are no list": {"merges": {}},
        "no vocabulary": {"vocab": {}},
        "vocabulary that is a list": {"vocab": list(vocabulary)},
        "one id for two": {"vocab": {**vocabulary, first: vocabulary[second]}},
        "id of 2^40": {"vocab": {**vocabulary, first: 2**40}},
        "negative id": {"vocab": {**vocabulary, first: -1}},
        "id of a half": {"vocab": {**vocabulary, first: 0.5}},
        "id of text": {"vocab": {**vocabulary, first: "0"}},
        "long token": {"vocab": {**vocabulary, "x" * 100_000: 70_000}},
        "unknown key": {"extra": 1},
    }
    bent = {name: {**model, **change} for name, change in changes.items()}
    return bent | {
        "none": None,
        "WordLevel": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "nowhere"},
        "WordPiece": {
            "type": "WordPiece",
            "vocab": vocabulary,
            "unk_token": "nowhere",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
        },
        "Unigram": {"type": "Unigram", "unk_id": 7, "vocab": [["a", -1.0]], "byte_fallback": False},
    }


def _added(tokens: Any) -> dict[str, Any]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
    return {
        "no list": {},
        "empty text": [*tokens, {"id": 600, "content": "", **plain}],
        "another's id": [*tokens, {"id": 3, "content": "zebra", **plain}],
        "one id for two": [*tokens, {"id": 700, "content": "one", **plain}, {"id": 700, "content": "two", **plain}],
        "text twice": [*tokens, {"id": 700, "content": "one", **plain}, {"id": 701, "content": "one", **plain}],
        "id of 2^40": [*tokens, {"id": 2**40, "content": "zebra", **plain}],
        "negative id": [*tokens, {"id": -1, "content": "zebra", **plain}],
        "single words": [*tokens, {"id": 700, "content": "zebra", **plain, "single_word": True}],
        "white space": [*tokens, {"id": 700, "content": "zebra", **plain, "lstrip": True}],
        "flag of text": [*tokens, {"id": 700, "content": "zebra", **plain, "special": "yes"}],
        "unknown key": [*tokens, {"id": 700, "content": "zebra", "extra": 1, **plain}],
        "10^4 of them": [*tokens, *({"id": 1000 + i, "content": f"z{i}", **plain} for i in range(10_000))],
        "other end token": [{**tokens[0]}, {**tokens[1], "content": "<|end|>"}],
    }


def _nest(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value
