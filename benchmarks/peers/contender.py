"""The interface of a contender of a whole edit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from alterbute.backends import Array
from alterbute.images.photo import Bytes

from benchmarks.peers.inputs import EditInputs


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TimedEdit:
    """Times and result of one edit.

    Args:
        seconds: `whole`, from decoded images and prompt to the edited image, and its parts `encode`, `steps`, `decode`.
        latent: [C,h,w] f32, the clean latent before decoding.
        picture: SS3 uint8, the edited photo.
        alpha: SS uint8, weight of the edit in each pixel; 255 everywhere for diffusers, which does not paste back.
    """

    seconds: dict[str, float]
    latent: Array
    picture: Bytes
    alpha: Bytes


class EditContender(Protocol):
    """A loaded contender, which caches no encodings between calls."""

    def edit(self, inputs: EditInputs, steps: int) -> TimedEdit:
        """Edit one image, and time the edit and its parts."""
        ...
