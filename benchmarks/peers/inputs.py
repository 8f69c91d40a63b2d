"""Inputs of a whole edit for all contenders: pictures, masks, and what the runtime's window graph makes of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from alterbute.backends import Array
from alterbute.backends.onnxruntime import OnnxRuntimeBackend
from alterbute.bundle import Bundle
from alterbute.denoise.noise import draw_noise
from alterbute.encode.encoder import Encoder
from alterbute.images import identity_box, load_photo, load_reference, load_region, whole_region
from alterbute.images.photo import Bytes

from benchmarks.common.timing import draw_scene

PROMPT: Final = "color: red"
SEED: Final = 7
GUIDANCE: Final = 7.5
IDENTITY_SCALE: Final = 0.6
SOLVER: Final = "ddim"
_OBJECT_SHARE: Final = 0.2
"""Of a photo of the model's size: an object so large that its window is the whole photo, and cutting changes no pixel."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EditInputs:
    """One edit's inputs.

    Args:
        photo: SS3 uint8, of the model's resolution; also what the model sees.
        mask: SS uint8, 255 = object.
        reference: hw3 uint8, with the object that gives the identity.
        reference_mask: hw uint8.
        painted: SS uint8, the mask grown by the bundle's rim, which is generated anew.
        identity_pixels: ss3 uint8, the reference as the image encoder sees it.
        identity_mask: ss uint8, its object; the rest is grey.
        noise: [C,h,w] f32, the first latent.
        ids: [2,T] int64, token ids of the empty prompt and of the prompt.
    """

    photo: Bytes
    mask: Bytes
    reference: Bytes
    reference_mask: Bytes
    painted: Bytes
    identity_pixels: Bytes
    identity_mask: Bytes
    noise: Array
    ids: Array

    def save(self, path: Path) -> None:
        """Write the inputs to a file, for the processes of the contenders."""
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **asdict(self))

    @classmethod
    def load(cls, path: Path) -> EditInputs:
        """Read inputs that were written by `save`."""
        with np.load(path) as kept:
            return cls(**kept)


def make_inputs(bundle: Bundle) -> EditInputs:
    """Draw the pictures, and process them with the bundle's window graph.

    Raises:
        SystemExit: the window does not show the photo as it is, so diffusers could not be given the same.
    """
    manifest, side = bundle.manifest, bundle.manifest.resolution
    pixels, mask = draw_scene(side, side, _OBJECT_SHARE)
    reference, reference_mask = draw_scene(side, side, _OBJECT_SHARE / 2)
    photo, identity = load_photo(pixels), manifest.identity
    if identity is None:
        raise SystemExit(
            f"the bundle {manifest.name!r} takes no reference: a whole edit is compared with an IP-Adapter"
        )
    backend = OnnxRuntimeBackend(bundle, graphs=("window",))
    encoder = Encoder(bundle, backend)
    region = load_region(mask, photo)
    _, window, _ = encoder.crop_photo(photo, region, side)
    if not np.array_equal(window.pixels, pixels):
        raise SystemExit("the window is not the whole photo: draw a larger object")
    shown, where = load_reference(reference, reference_mask)
    close = encoder.crop_window(shown, whole_region(where), identity_box(where), identity.size)
    cells = side // manifest.latent_factor
    inputs = EditInputs(
        photo=pixels,
        mask=mask,
        reference=reference,
        reference_mask=reference_mask,
        painted=window.edit_mask,
        identity_pixels=close.pixels,
        identity_mask=close.object_mask,
        noise=draw_noise(SEED, 0, 0, (manifest.latent_channels, cells, cells)),
        ids=np.concatenate([encoder.tokenize(""), encoder.tokenize(PROMPT)]),
    )
    backend.close()
    return inputs
