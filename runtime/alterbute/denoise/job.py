"""What the lane takes and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from alterbute.backends import Array
from alterbute.denoise.plan import Plan
from alterbute.errors import EngineError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conditioning:
    """What the UNet of one image sees beside its latent, all f32.

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
    """Told how many steps are done."""

    @property
    def cells(self) -> int:
        """Side of its latent: only images of one size can share a launch."""
        return int(self.conditioning.background.shape[-1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JobResult:
    """One image that left the lane: its job, its clean latent [C,h,w] f32, and the seconds that it was in the lane.

    `fault` is set when its numbers stopped being finite: then the latent is worth nothing.
    """

    job: Job
    latent: Array
    seconds: float
    fault: EngineError | None = None
