"""Input and output of the lane: a job per image, and its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from alterbute.backends import Array
from alterbute.denoise.plan import Plan
from alterbute.errors import EngineError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conditioning:
    """The inputs of one image's UNet rows besides the latent, all f32.

    Args:
        scene: [Cs,h,w].
        background: [C,h,w], clean latent of the photo's window.
        keep: [1,h,w], 1 = background.
        text: [T,D] by `Row.text`.
        pooled: [P] by `Row.text`; empty for a bundle without pooled text.
        identity: [Ti,D] or [C,h,w] by `Row.identity`; empty for a bundle without identity.
    """

    scene: Array
    background: Array
    keep: Array
    text: dict[str, Array]
    pooled: dict[str, Array]
    identity: dict[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """One image to denoise."""

    plan: Plan
    conditioning: Conditioning
    on_step: Callable[[int], None] | None = None
    """Called with the number of steps that are done."""

    @property
    def cells(self) -> int:
        """Side of its latent in cells; only images of one size share a launch."""
        return int(self.conditioning.background.shape[-1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JobResult:
    """An image that left the lane: its job, its clean latent [C,h,w] f32, and the seconds that it was in the lane.

    `fault` is set when its numbers stopped being finite; the latent is then not usable.
    """

    job: Job
    latent: Array
    seconds: float
    fault: EngineError | None = None
