"""Guidance as data: the UNet rows of an image at each step, with their conditioning and their weights in the guided output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from alterbute.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One UNet evaluation.

    Args:
        weight: Weight in the guided output; the weights of an image sum to 1.
        text: Which prompt the row reads: the request's, or the negative prompt.
        identity: Which identity the row reads: the reference's, or the null identity.
        source_on: 1, or 0 to drop the scene's reference or source channels.
    """

    weight: float
    text: Literal["prompt", "negative"] = "prompt"
    identity: Literal["given", "null"] = "given"
    source_on: float = 1.0


def make_guidance_rows(text: float, identity: float, forms: Sequence[str]) -> tuple[Row, ...]:
    """Make the rows of a guided step: one without guidance, two with text guidance, three with identity guidance.

    `u + s_T (full - img) + s_I (img - u)`: InstructPix2Pix (arXiv 2211.09800, eq. 3), which the paper uses with
    s_T = 7.5 and s_I = 2. `full` reads prompt and identity, `img` the negative prompt and the identity, `u` neither. A row
    of weight 0 is not run.

    Args:
        text: s_T; 1 turns text guidance off.
        identity: s_I; 1 turns identity guidance off.
        forms: The forms of guidance that the bundle was trained for.

    Raises:
        InputError: a form of guidance is used that the bundle was not trained for.
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
    """List the rows of every step; steps outside the interval run one row, a half or third of the cost (arXiv 2404.07724).

    Args:
        rows: The rows of a guided step.
        steps: Number of steps n.
        interval: (start, stop), shares of the steps in 0..1: step k is guided if `start <= k / n < stop`.
    """
    unguided = (Row(weight=1.0),)
    start, stop = interval
    return tuple(rows if start <= k / steps < stop else unguided for k in range(steps))
