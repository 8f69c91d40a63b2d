"""Input and output of the lane: one job and one result per image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from alterbute.backends import Array
from alterbute.denoise.plan import Plan
from alterbute.errors import EngineError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conditioning:
    """Inputs of one image's UNet rows besides the latent, all f32.

    Args:
        scene: [Cs,h,w], the UNet's input channels besides the latent.
        background: [C,h,w], clean latent of the photo's window.
        keep: [1,h,w], 1 = background.
        text: [T,D] for each value of `Row.text`.
        pooled: [P] for each value of `Row.text`; empty for a bundle without pooled text.
        identity: [Ti,D] or [C,h,w] for each value of `Row.identity`; empty for a bundle without identity.
    """

    scene: Array
    background: Array
    keep: Array
    text: dict[str, Array]
    pooled: dict[str, Array]
    identity: dict[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """One image to denoise: its plan and its conditioning."""

    plan: Plan
    conditioning: Conditioning
    on_step: Callable[[int], None] | None = None
    """Called after every step with the number of finished steps."""

    @property
    def cells(self) -> int:
        """Side of the image's latent in cells; only images of one size share a launch."""
        return int(self.conditioning.background.shape[-1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JobResult:
    """The result of a job.

    Args:
        job: The job.
        latent: [C,h,w] f32, the clean latent.
        seconds: Time in the lane, in seconds.
        fault: The error of an image whose numbers stopped being finite; the latent is then unusable. Otherwise None.
    """

    job: Job
    latent: Array
    seconds: float
    fault: EngineError | None = None
