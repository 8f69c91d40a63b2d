"""Guidance as data: which UNet rows an image owns at each step, what each row sees, and its weight in the guided output."""

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
        identity: The identity it sees: the reference's, or what stands for none.
        source_on: 1, or 0 to drop the scene's reference or source channels.
    """

    weight: float
    text: Literal["prompt", "negative"] = "prompt"
    identity: Literal["given", "null"] = "given"
    source_on: float = 1.0


def make_guidance_rows(text: float, identity: float, forms: Sequence[str]) -> tuple[Row, ...]:
    """The rows of one guided step: one without guidance, two with text guidance, three with identity guidance, too.

    `u + s_T (full - img) + s_I (img - u)`: InstructPix2Pix (arXiv 2211.09800, eq. 3), which the paper follows with
    s_T = 7.5 and s_I = 2. `full` sees prompt and identity, `img` the negative prompt, `u` no identity either. A row
    of weight 0 is not run.

    Args:
        text: s_T; 1 leaves the text unguided.
        identity: s_I; 1 leaves the identity unguided.
        forms: The forms that the bundle was trained for.

    Raises:
        InputError: a form is asked of a bundle that was trained without it.
    """
    for name, param, scale in (("text", "guidance", text), ("identity", "identity_guidance", identity)):
        if scale != 1 and name not in forms:
            raise InputError(
                f"{param} is {scale:g}",
                "1: this bundle was trained without it",
                f"leave {param} out",
                param,
                f"{param}_unsupported",
            )
    rows = (
        Row(weight=1.0 - identity, text="negative", identity="null", source_on=0.0),
        Row(weight=identity - text, text="negative"),
        Row(weight=text),
    )
    return tuple(row for row in rows if row.weight != 0) or (Row(weight=1.0),)


def list_step_rows(rows: tuple[Row, ...], steps: int, interval: tuple[float, float]) -> tuple[tuple[Row, ...], ...]:
    """The rows of every step: outside the interval one row alone, which costs a half or a third (arXiv 2404.07724).

    Args:
        rows: Those of a guided step.
        steps: n.
        interval: Shares of the steps: step k is guided if `start <= k / n < stop`.
    """
    alone = (Row(weight=1.0),)
    start, stop = interval
    return tuple(rows if start <= k / steps < stop else alone for k in range(steps))
