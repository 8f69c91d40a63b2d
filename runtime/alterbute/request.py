"""The request of an edit, and checks of its values."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Final, Literal, TypeAlias, TypedDict

from alterbute.errors import InputError

Detail: TypeAlias = Literal["auto", "photo", "model"]
DETAILS: Final[tuple[Detail, ...]] = ("auto", "photo", "model")

MAX_SEED: Final = 2**63 - 1
MAX_STEPS: Final = 1000
MAX_COUNT: Final = 64
MAX_GUIDANCE: Final = 100.0
_MAX_POSITIVE: Final = 4096
MAX_IDENTITY_SCALE: Final = 10.0


class EditOptions(TypedDict, total=False):
    """The keyword options of an edit besides its prompt: fields of `EditRequest`, which documents them."""

    negative_prompt: str
    seed: int | None
    steps: int | None
    solver: str | None
    strength: float | None
    eta: float
    sigmas: str | None
    guidance: float | None
    identity_guidance: float | None
    guidance_rescale: float | None
    guidance_interval: tuple[float, float] | None
    identity_scale: float
    reinject: bool | None
    detail: Detail
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EditRequest:
    """One prompt with its options, checked when it is created. None means the bundle's default.

    Args:
        prompt: The change, such as `color: red; material: metal`.
        negative_prompt: The prompt that text guidance steers away from.
        seed: 0..2^63-1; the same seed gives the same bytes. None draws a random one, which the result reports.
        steps: Denoising steps, 1..1000. `heun` calls the UNet twice per step except the last, `plms` once more than the steps.
        solver: A name in `alterbute.solver.SOLVERS`.
        strength: How far the edit may depart from the photo, above 0 to 1: 1 starts from pure noise; a lower value starts from
            the photo under that share of the noise and runs that share of the steps (SDEdit, arXiv 2108.01073).
        eta: With `ddim`: share of the removed noise that is drawn afresh at each step, 0..1.
        sigmas: Rule of the noise levels: `normal` follows the bundle's timestep spacing, `karras` and `exponential` spread the
            sigmas; None takes the rule of the checkpoint's scheduler config.
        guidance: Scale of text guidance; 1 turns it off and saves a UNet row.
        identity_guidance: Scale of identity guidance, for bundles that were trained for it; 1 turns it off.
        guidance_rescale: How far the guided output is rescaled to the standard deviation of the prompt's row, 0..1
            (arXiv 2305.08891).
        guidance_interval: Shares of the steps between which guidance is on, such as (0.0, 0.8); other steps run one UNet row.
        identity_scale: Weight of the reference's identity, 0..10.
        reinject: Whether the photo's latent is restored outside the mask after every step.
        detail: Where the object's detail comes from: `photo` takes the edit's local colours only and applies them to the photo's own
            pixels, `model` takes the model's pixels, `auto` chooses; see `alterbute.detail.choose_paste`.
        count: Number of images, 1..64; they differ in their noise only.

    Raises:
        InputError: a value is out of range or of another type.
    """

    prompt: str
    negative_prompt: str = ""
    seed: int | None = None
    steps: int | None = None
    solver: str | None = None
    strength: float | None = None
    eta: float = 0.0
    sigmas: str | None = None
    guidance: float | None = None
    identity_guidance: float | None = None
    guidance_rescale: float | None = None
    guidance_interval: tuple[float, float] | None = None
    identity_scale: float = 1.0
    reinject: bool | None = None
    detail: Detail = "auto"
    count: int = 1

    def __post_init__(self) -> None:
        """Check types and ranges."""
        _check_integer("seed", self.seed, 0, MAX_SEED)
        _check_integer("steps", self.steps, 1, MAX_STEPS)
        _check_integer("count", self.count, 1, MAX_COUNT)
        _check_number("guidance", self.guidance, MAX_GUIDANCE)
        _check_number("identity_guidance", self.identity_guidance, MAX_GUIDANCE)
        _check_number("guidance_rescale", self.guidance_rescale, 1)
        _check_number("identity_scale", self.identity_scale, MAX_IDENTITY_SCALE)
        _check_number("eta", self.eta, 1)
        _check_number("strength", self.strength, 1)
        if self.strength == 0:
            raise _range_error("strength", self.strength, "more than 0, at most 1")
        _check_interval(self.guidance_interval)
        _check_text("solver", self.solver)
        _check_text("sigmas", self.sigmas)
        _check_flag("reinject", self.reinject)
        _check_text("detail", self.detail, is_optional=False)
        if self.detail not in DETAILS:
            raise InputError(
                f"detail is {self.detail!r:.60}",
                f"one of {', '.join(DETAILS)}",
                "choose one of those",
                "detail",
                "detail_unknown",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Report of one finished UNet step of one image.

    Args:
        image: Index of the image within the call, 0-based, in the order of the results.
        images: Number of images in the call.
        step: Finished steps of this image, 1..steps.
        steps: Number of steps of this image.
    """

    image: int
    images: int
    step: int
    steps: int


ProgressCallback: TypeAlias = Callable[[Progress], None]
CancelCheck: TypeAlias = Callable[[], bool]
"""Called before every launch; True ends the call with `Cancelled`. `threading.Event().is_set` can be used."""


def report_step(progress: ProgressCallback, image: int, images: int, steps: int, step: int) -> None:
    """Call a progress callback after a step.

    Args:
        progress: The callback.
        image: Index of the image within the call, 0-based.
        images: Number of images in the call.
        steps: Number of steps of this image.
        step: Finished steps of this image, 1..steps.
    """
    progress(Progress(image=image, images=images, step=step, steps=steps))


def draw_seed() -> int:
    """Draw a random seed, 0..2^63-1, from the operating system."""
    return int.from_bytes(os.urandom(8)) & MAX_SEED


def check_positive(param: str, value: int | None) -> None:
    """Refuse a number below 1 or above 4,096; None is accepted.

    Raises:
        InputError: it is out of range, or no whole number.
    """
    _check_integer(param, value, 1, _MAX_POSITIVE)


def check_resolution(side: int | None, window_sides: tuple[int, ...]) -> None:
    """Refuse a window side that the bundle does not support.

    Args:
        side: The requested side in pixels; None is accepted, and the side is chosen by the object's size.
        window_sides: The bundle's window sides in pixels.

    Raises:
        InputError: the side is not one of the bundle's, or no whole number.
    """
    _check_integer("resolution", side, 1, MAX_SEED)
    if side is not None and side not in window_sides:
        sides = ", ".join(map(str, window_sides))
        raise InputError(
            f"the resolution is {side}",
            f"one of the bundle's: {sides}",
            "leave it out to have it chosen",
            "resolution",
            "resolution_unknown",
        )


def _check_integer(param: str, value: object, low: int, high: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise _type_error(param, value, f"a whole number from {low} to {high}")
    if not low <= int(value) <= high:
        raise _range_error(param, value, f"{low} to {high}")


def _check_number(param: str, value: object, high: float) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, Real):
        raise _type_error(param, value, f"a number from 0 to {high:g}")
    # Compared before it is converted: an integer may have more digits than a float can hold.
    number: Any = value  # mypy knows no order of Real
    if not 0 <= number <= high or math.isnan(value):
        raise _range_error(param, value, f"0 to {high:g}")


def _check_interval(value: tuple[float, float] | None) -> None:
    if value is None:
        return
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise _type_error("guidance_interval", value, "two numbers from 0 to 1")
    for end in value:
        if end is None:
            raise _type_error("guidance_interval", end, "two numbers from 0 to 1")
        _check_number("guidance_interval", end, 1)
    if value[0] > value[1]:
        raise _range_error("guidance_interval", value, "two rising shares of the steps, 0 to 1")


def _range_error(param: str, value: object, expected: str) -> InputError:
    return InputError(
        f"{param} is {_show(value)}", expected, f"choose {param} in that range", param, f"{param}_out_of_range"
    )


def _show(value: object) -> str:
    """A value in few characters; Python refuses to print integers of thousands of digits."""
    if isinstance(value, int) and value.bit_length() > 64:
        return f"an integer of {value.bit_length()} bits"
    return f"{value}"[:60]


def _type_error(param: str, value: object, expected: str, fix: str = "pass a number") -> InputError:
    return InputError(f"{param} is a {type(value).__name__}", expected, fix, param, f"{param}_type")


def _check_text(param: str, value: object, *, is_optional: bool = True) -> None:
    if not (isinstance(value, str) or (value is None and is_optional)):
        raise _type_error(param, value, "a string", "pass text")


def _check_flag(param: str, value: object) -> None:
    # numpy's booleans compare as Python's do.
    if value is not None and type(value).__name__ not in ("bool", "bool_"):
        raise _type_error(param, value, "True or False", "pass one of those")
