"""Tokenizes prompts to a fixed window of CLIP's byte-pair ids, and checks them against the bundle's vocabulary."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from alterbute.encode.tokenizer_file import check_tokenizer_file
from alterbute.errors import BundleError, InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MAX_PROMPT_BYTES: Final = 4096
"""Far more than fits into any window; bounds the tokenizer's work on a hostile prompt."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PromptTokenizer:
    """Converts prompts to token ids; a prompt is never truncated.

    Args:
        tokenizer: The tokenizer, without truncation and padding.
        tokens: T, length of the text encoder's window, including start and end ids.
        start_id: Id before every prompt.
        end_id: Id after every prompt.
        pad_id: Id that fills the rest of the window.
    """

    tokenizer: Tokenizer
    tokens: int
    start_id: int
    end_id: int
    pad_id: int

    @classmethod
    def from_bytes(
        cls, tokenizer_json: bytes, *, tokens: int, start_id: int, end_id: int, pad_id: int
    ) -> PromptTokenizer:
        """Open a `tokenizer.json`.

        Args:
            tokenizer_json: The file's bytes, as verified by the bundle.
            tokens: T, length of the text encoder's window, including start and end ids.
            start_id: Id before every prompt.
            end_id: Id after every prompt.
            pad_id: Id that fills the rest of the window.

        Raises:
            BundleError: the bytes are not a tokenizer of CLIP's kind, or it lacks one of the ids.
        """
        try:
            used, ids = check_tokenizer_file(tokenizer_json)
        except ValueError as fault:
            raise _tokenizer_error(str(fault)) from None
        for name, number in (("start_id", start_id), ("end_id", end_id), ("pad_id", pad_id)):
            if number not in ids:
                raise _tokenizer_error(f"it has no id {number}, the manifest's text.{name}")
        from tokenizers import Tokenizer

        with _no_panic():
            tokenizer = Tokenizer.from_buffer(used)
        # Padding and special ids are added here; `<|endoftext|>` typed by a user is ordinary text.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        return cls(tokenizer=tokenizer, tokens=tokens, start_id=start_id, end_id=end_id, pad_id=pad_id)

    def encode(self, prompts: Sequence[str]) -> NDArray[np.int64]:
        """Convert prompts to ids, padded to the window.

        Returns:
            [N,T] int64: start id, the prompt's ids, end id, pad ids.

        Raises:
            InputError: a prompt is not text, or is longer than the window; the message gives both token counts.
            BundleError: the tokenizer failed.
        """
        ids = np.full((len(prompts), self.tokens), self.pad_id, np.int64)
        for row, prompt in zip(ids, prompts, strict=True):
            check_text(prompt)
            with _no_panic():
                prompt_ids = self.tokenizer.encode(prompt, add_special_tokens=False).ids
            if len(prompt_ids) + 2 > self.tokens:
                raise InputError(
                    f"the prompt is {len(prompt_ids)} tokens long",
                    f"at most {self.tokens - 2}, this bundle's window",
                    "shorten it; it is never cut in silence",
                    "prompt",
                    "prompt_too_long",
                )
            row[: len(prompt_ids) + 2] = [self.start_id, *prompt_ids, self.end_id]
        return ids


@contextmanager
def _no_panic() -> Iterator[None]:
    """Turn any failure of the tokenizers library into a BundleError: it raises plain Exception, and PanicException beside it."""
    try:
        yield
    except BaseException as fault:
        if not isinstance(fault, Exception) and type(fault).__name__ != "PanicException":
            raise
        raise _tokenizer_error(str(fault)) from None


def _tokenizer_error(seen: str) -> BundleError:
    return BundleError(
        f"the bundle's tokenizer cannot be used ({seen[:200]})",
        "a tokenizer.json of CLIP's kind",
        "export the bundle again with `alterbute-export bundle`",
    )


def check_text(prompt: str) -> None:
    """Refuse a prompt that is not text, or far too long.

    Raises:
        InputError: the prompt is not a string, not encodable as UTF-8, or longer than `MAX_PROMPT_BYTES`.
    """
    if not isinstance(prompt, str):
        raise InputError(
            f"the prompt is a {type(prompt).__name__}",
            "a string",
            'pass text, such as "color: red"',
            "prompt",
            "prompt_type",
        )
    try:
        size = len(prompt.encode())
    except UnicodeEncodeError:
        raise InputError(
            "the prompt holds half of a surrogate pair", "valid Unicode", "type it again", "prompt", "prompt_unicode"
        ) from None
    if size > MAX_PROMPT_BYTES:
        raise InputError(
            f"the prompt is {size} bytes long", f"at most {MAX_PROMPT_BYTES}", "shorten it", "prompt", "prompt_too_long"
        )


def parse_attributes(prompt: str) -> tuple[tuple[str, str], ...]:
    """Split `color: red; material: metal` into name and value of each part, in lower case.

    Returns:
        Such as (("color", "red"), ("material", "metal")); the name of a part without `:` is "".
    """
    parts = (part.rpartition(":") for part in prompt.lower().split(";") if part.strip())
    return tuple((name.strip(), value.strip()) for name, _, value in parts)


def named_attributes(prompt: str, attributes: Mapping[str, Sequence[str]] | None) -> frozenset[str]:
    """The attributes that a prompt names; "" stands for words that belong to no attribute.

    Args:
        prompt: The prompt; `name: value` parts separated by `;`, or values alone.
        attributes: The manifest's vocabulary, in which values alone are looked up; None is an open vocabulary.
    """
    owners = {value: name for name, values in (attributes or {}).items() for value in values}
    return frozenset(name or owners.get(value, "") for name, value in parse_attributes(prompt))


def first_prompt(attributes: Mapping[str, Sequence[str]] | None) -> str | None:
    """The prompt of the first value in the bundle's vocabulary; None where the vocabulary is open."""
    return next(iter(first_prompts(attributes)), None)


def first_prompts(attributes: Mapping[str, Sequence[str]] | None) -> tuple[str, ...]:
    """One prompt per value of the first attribute in the bundle's vocabulary; none where the vocabulary is open."""
    name, values = next(((name, values) for name, values in (attributes or {}).items() if values), ("", ()))
    return tuple(f"{name}: {value}" for value in values)


def unknown_words(prompt: str, attributes: Mapping[str, Sequence[str]] | None) -> tuple[str, ...]:
    """The prompt's attribute names and values that a bundle was not trained on, in the prompt's order.

    Args:
        prompt: The prompt; `name: value` parts separated by `;`.
        attributes: The manifest's vocabulary; None is an open vocabulary, in which no word is unknown.
    """
    if attributes is None:
        return ()
    unknown: list[str] = []
    for name, value in parse_attributes(prompt):
        if name and name not in attributes:
            unknown.append(name)
        elif name and value not in attributes[name]:
            unknown.append(value)
        elif not name:
            vocabulary = {*attributes, *(word for values in attributes.values() for word in values)}
            unknown += [word for word in re.findall(r"\w+", value) if word not in vocabulary]
    return tuple(dict.fromkeys(unknown))


def check_attributes(prompt: str, attributes: Mapping[str, Sequence[str]] | None) -> None:
    """Refuse a prompt with an attribute that the bundle was not trained to change.

    Raises:
        InputError: `name: value` with a name that the manifest does not list; the message lists the vocabulary.
    """
    names = [name for name, _ in parse_attributes(prompt) if name]
    untrained = [name for name in names if attributes is not None and name not in attributes]
    if untrained and attributes is not None:
        raise InputError(
            f"the prompt asks for {', '.join(map(repr, untrained))}",
            f"what this bundle was trained on ({_format_vocabulary(attributes)})",
            "leave it out, or use a bundle that was trained on it",
            "prompt",
            "prompt_attribute_unknown",
        )


def vocabulary_warning(prompt: str, attributes: Mapping[str, Sequence[str]] | None) -> str | None:
    """A warning that lists the prompt's words outside the vocabulary, and the vocabulary; None if there are no such words."""
    unknown = unknown_words(prompt, attributes)
    if not unknown or attributes is None:
        return None
    return f"this bundle was not trained on {', '.join(map(repr, unknown))}; its vocabulary is {_format_vocabulary(attributes)}"


def _format_vocabulary(attributes: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{name}: {', '.join(values)}" for name, values in attributes.items())
