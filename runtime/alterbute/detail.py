"""Where an edited object's detail comes from: the photo, through a local colour map, or the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from alterbute.bundle import DetailRules
from alterbute.encode.prompt import named_attributes
from alterbute.errors import InputError
from alterbute.request import Detail

_SHAPE: Final = "shape"
_MODEL_THRESHOLD: Final = -1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PasteRule:
    """How an edited window is pasted.

    Args:
        detail: `photo`: the edit's local colour map is applied to the photo's own pixels. `model`: the model's pixels are enlarged.
        threshold: T in [0,1] for `photo`: the residual of the map from which the model's pixels are added. -1 for `model`.
    """

    detail: Literal["photo", "model"]
    threshold: float


def choose_paste(
    detail: Detail,
    prompt: str,
    *,
    rules: DetailRules,
    attributes: Mapping[str, Sequence[str]] | None,
    is_aligned: bool,
    bits: int,
) -> PasteRule:
    """Decide how an edit is pasted.

    `auto` is `photo`, unless the object may move or change its outline: then the photo's detail would lie beside the edit's. With
    `photo`, T is the bundle's where the prompt names only attributes that keep the photo's detail, and 0 for others, which adds all
    of the model's pixels that the map does not explain.

    Args:
        detail: The request's choice.
        prompt: The request's prompt.
        rules: The bundle's rules.
        attributes: The bundle's vocabulary; None is an open one.
        is_aligned: Whether the edit has the object where the photo has it: no box mask, and no reference of another object.
        bits: Bits per channel of the photo.

    Raises:
        InputError: the detail would be the model's, which has 8 bits, and the photo has more.
    """
    names = named_attributes(prompt, attributes)
    if detail == "model" or (detail == "auto" and (not is_aligned or _SHAPE in names)):
        if bits > 8:
            raise InputError(
                f"the photo has {bits} bits, and this edit takes its detail from the model, which has 8",
                "detail = photo, or a photo of 8 bits",
                "choose detail = photo, or save the photo with 8 bits",
                "detail",
                "detail_depth",
            )
        return PasteRule(detail="model", threshold=_MODEL_THRESHOLD)
    return PasteRule(detail="photo", threshold=rules.threshold if names <= {*rules.attributes} else 0.0)
