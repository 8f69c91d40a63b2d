"""A bundle's `tokenizer.json`, checked and reduced to what is used before the tokenizers library gets a byte of it.

The library panics on some files, and its regular expressions and replacements can run without end on others. Accepted is
what CLIP's tokenizers have: byte-pair encoding, one normalizer and one pre-tokenizer, whose patterns are known. The C++ runtime
accepts the same.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, Final

from alterbute.bundle.bounds import MAX_TOKEN_ID
from alterbute.bundle.strict_json import parse_json

_MAX_DEPTH: Final = 16
_MAX_ENTRIES: Final = 1 << 20
_MAX_ADDED: Final = 4096
_MAX_TEXT: Final = 256
_MAX_SUFFIX: Final = 16
_WORDS: Final = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_PATTERNS: Final = (_WORDS, r"<\|startoftext\|>|<\|endoftext\|>|" + _WORDS)
_NORMALIZER: Final = {
    "type": "Sequence",
    "normalizers": [
        {"type": "NFC"},
        {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
        {"type": "Lowercase"},
    ],
}
_DECODER: Final = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
# Parts that are not used: padding and special ids are the runtime's, and nothing is decoded.
_UNUSED: Final = frozenset({"truncation", "padding", "post_processor", "decoder"})
_TOP: Final = _UNUSED | {"version", "added_tokens", "normalizer", "pre_tokenizer", "model"}
_OFF: Final = {
    "dropout": (None,),
    "continuing_subword_prefix": (None, ""),
    "fuse_unk": (False,),
    "byte_fallback": (False,),
    "ignore_merges": (False,),
}
_MODEL: Final = frozenset({"type", "unk_token", "end_of_word_suffix", "vocab", "merges", *_OFF})
_FLAGS: Final = ("single_word", "lstrip", "rstrip", "normalized", "special")


def check_tokenizer_file(data: bytes) -> tuple[bytes, frozenset[int]]:
    """Check a `tokenizer.json`; returns the part of it that is used, and all ids.

    Args:
        data: The file's bytes.

    Raises:
        ValueError: it is not a tokenizer of CLIP's kind; the message names the place.
    """
    document = _record(parse_json(data, max_depth=_MAX_DEPTH), "the file", _TOP)
    _expect(document.get("version", "1.0") == "1.0", "its version is not 1.0")
    _expect(
        _is_same(document.get("normalizer"), _NORMALIZER),
        "its normalizer is not CLIP's: NFC, white space to one space, lower case",
    )
    _check_pre_tokenizer(document.get("pre_tokenizer"))
    vocabulary = _check_model(document.get("model"))
    added = _check_added(document.get("added_tokens", []), vocabulary)
    ids = frozenset(vocabulary.values()) | added
    if _are_harmless(document):
        return data, ids
    used = {name: value for name, value in document.items() if name not in _UNUSED}
    return json.dumps({**used, **dict.fromkeys(sorted(_UNUSED))}).encode(), ids


def _are_harmless(document: dict[str, Any]) -> bool:
    """Whether the unused parts are those of every CLIP tokenizer: then the file need not be written anew, which takes time."""
    processor = document.get("post_processor")
    rest = dict(processor) if isinstance(processor, dict) else {}
    pairs = [rest.pop(name, None) for name in ("sep", "cls")]
    is_roberta = rest.pop("type", None) == "RobertaProcessing" and all(
        isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) and _is_id(pair[1]) for pair in pairs
    )
    return (
        document.get("truncation") is None
        and document.get("padding") is None
        and is_roberta
        and _is_same(rest, {"add_prefix_space": False, "trim_offsets": False})
        and _is_same(document.get("decoder"), _DECODER)
    )


def _check_pre_tokenizer(value: Any) -> None:
    message = "its pre-tokenizer is not CLIP's: Split, then ByteLevel"
    steps = value.get("pretokenizers") if isinstance(value, dict) else None
    _expect(isinstance(steps, list) and len(steps) == 2 and _is_same(value, _sequence(steps)), message)
    split, levels = steps  # type: ignore[misc]
    _expect(
        any(_is_same(split, _split(pattern)) for pattern in _PATTERNS),
        "its pre-tokenizer does not split as CLIP's do",
    )
    levels = _record(levels, "ByteLevel", frozenset({"type", "add_prefix_space", "trim_offsets", "use_regex"}))
    flags = [levels.get(name, False) for name in ("trim_offsets", "use_regex")]
    _expect(levels.get("type") == "ByteLevel" and levels.get("add_prefix_space", False) is False, message)
    _expect(all(isinstance(flag, bool) for flag in flags), message)


def _sequence(steps: object) -> dict[str, object]:
    return {"type": "Sequence", "pretokenizers": steps}


def _split(pattern: str) -> dict[str, object]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Removed", "invert": True}


def _check_model(value: Any) -> dict[str, int]:
    """Check the byte-pair model; returns the id of each entry."""
    model = _record(value, "the model", _MODEL)
    _expect(model.get("type") == "BPE", "its model is not BPE")
    for name, values in _OFF.items():
        setting = model.get(name, values[0])
        _expect(any(setting is item or (item == "" and setting == "") for item in values), f"its model has {name}")
    suffix = model.get("end_of_word_suffix")
    _expect(suffix is None or _is_text(suffix, _MAX_SUFFIX, 0), "its end_of_word_suffix is too long")
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict) or not 1 <= len(vocabulary) <= _MAX_ENTRIES:
        raise ValueError(f"its vocabulary has not 1 to {_MAX_ENTRIES} entries")
    _expect(all(1 <= len(token) <= _MAX_TEXT for token in vocabulary), "an entry of its vocabulary is too long")
    _expect(all(_is_id(number) for number in vocabulary.values()), "an id of its vocabulary is out of range")
    _expect(len(set(vocabulary.values())) == len(vocabulary), "two entries of its vocabulary have one id")
    unknown = model.get("unk_token")
    _expect(
        unknown is None or (isinstance(unknown, str) and unknown in vocabulary),
        "its unk_token is not in its vocabulary",
    )
    _check_merges(model.get("merges"), vocabulary)
    return vocabulary


def _check_merges(merges: Any, vocabulary: Collection[str]) -> None:
    if not isinstance(merges, list) or len(merges) > _MAX_ENTRIES:
        raise ValueError(f"its merges are no list of at most {_MAX_ENTRIES}")
    seen: set[tuple[str, str]] = set()
    for rank, merge in enumerate(merges):
        pair = merge.split(" ") if isinstance(merge, str) else merge
        is_pair = isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) and part for part in pair)
        if not is_pair:
            raise ValueError(f"merge {rank} is no pair")
        left, right = pair
        if left not in vocabulary or right not in vocabulary or left + right not in vocabulary:
            raise ValueError(f"merge {rank} needs an entry that its vocabulary lacks")
        seen.add((left, right))
    _expect(len(seen) == len(merges), "a merge is there twice")


def _check_added(tokens: Any, vocabulary: dict[str, int]) -> frozenset[int]:
    if not isinstance(tokens, list) or len(tokens) > _MAX_ADDED:
        raise ValueError(f"its added_tokens are no list of at most {_MAX_ADDED}")
    known, taken = set(vocabulary.values()), set[int]()
    contents: set[str] = set()
    for value in tokens:
        token = _record(value, "an added token", frozenset({"id", "content", *_FLAGS}))
        content, number = token.get("content"), token.get("id")
        _expect(_is_text(content, _MAX_TEXT, 1) and content not in contents, "an added token has no text of its own")
        _expect(_is_id(number), "an added token has an id that is out of range")
        flags = {name: token.get(name, False) for name in _FLAGS}
        _expect(all(isinstance(flag, bool) for flag in flags.values()), "an added token has a flag that is no flag")
        is_plain = not any(flags[name] for name in ("single_word", "lstrip", "rstrip"))
        _expect(flags["special"] or is_plain, "an added token takes white space or whole words only")
        own = vocabulary.get(str(content))
        is_own = number == own if own is not None else number not in known and number not in taken
        _expect(is_own, "an added token has another's id")
        contents.add(str(content))
        assert isinstance(number, int)
        taken.add(number)
    return frozenset(taken)


def _record(value: Any, what: str, keys: Collection[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is no object")
    for name in value:
        _expect(name in keys, f"{what} has the unknown key {name[:40]!r}")
    return value


def _is_same(value: Any, expected: Any) -> bool:
    """Equality that tells true from 1."""
    return json.dumps(value, sort_keys=True) == json.dumps(expected, sort_keys=True)


def _is_text(value: object, most: int, least: int) -> bool:
    return isinstance(value, str) and least <= len(value) <= most


def _is_id(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_TOKEN_ID


def _expect(is_so: bool, message: str) -> None:
    if not is_so:
        raise ValueError(message)
