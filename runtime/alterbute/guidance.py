"""Guidance as data: which UNet rows an image owns, what each row sees, and its weight in the guided output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from alterbute.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One UNet evaluation.

    Args:
        weight: Its share of the guided output; the weights of an image sum to 1.
        text: The prompt it sees: the request's, or the negative one.
        identity: The identity it sees: the reference's, or the projection of a zero embedding.
        source_on: 1, or 0 to drop the scene's reference channels.
    """

    weight: float
    text: Literal["prompt", "negative"] = "prompt"
    identity: Literal["given", "null"] = "given"
    source_on: float = 1.0


def guidance_rows(scale: float, forms: Sequence[str]) -> tuple[Row, ...]:
    """The rows of one step: one without guidance, two with text guidance.

    Args:
        scale: 1 needs no second row; more pushes away from the negative prompt: `n + scale * (p - n)`.
        forms: The forms that the bundle was trained for.

    Raises:
        InputError: guidance is asked of a bundle that has none.
    """
    if scale == 1:
        return (Row(weight=1.0),)
    if "text" not in forms:
        raise InputError(
            f"guidance is {scale:g}", "1: this bundle was trained without it", "leave guidance out", "guidance", "guidance_unsupported"
        )
    return (Row(weight=1.0 - scale, text="negative"), Row(weight=scale))
