"""The interface of a contender of a whole edit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from alterbute.backends import Array
from alterbute.images.photo import Bytes

from benchmarks.peers.inputs import EditInputs


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TimedEdit:
    """One edit.

    Args:
        seconds: `whole`, from pictures and words to a picture, and its parts `encode`, `steps` and `decode`.
        latent: [C,h,w] f32, the clean latent before it is decoded.
        picture: SS3 uint8, the edited photo.
        alpha: SS uint8, how much of the edit each pixel of it got; diffusers changes the whole window.
    """

    seconds: dict[str, float]
    latent: Array
    picture: Bytes
    alpha: Bytes


class EditContender(Protocol):
    """A contender that is loaded; no encoding is cached between calls."""

    def edit(self, inputs: EditInputs, steps: int) -> TimedEdit:
        """Make a whole edit of one image."""
        ...
