"""Inputs of a whole edit for all contenders: photo, reference and masks, and the results of the window graph for them."""

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
from alterbute.images import Photo, identity_box, load_photo, load_reference, load_region, whole_region
from alterbute.images.photo import Bytes

from benchmarks.common.timing import draw_scene

PROMPT: Final = "color: red"
SEED: Final = 7
GUIDANCE: Final = 7.5
IDENTITY_SCALE: Final = 0.6
SOLVER: Final = "ddim"
_OBJECT_SHARE: Final = 0.2
"""Share of the photo that the object covers: so large that the window is the whole photo, and cropping changes no pixel."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EditInputs:
    """Inputs of one edit.

    Args:
        photo: SS3 uint8, at the model's resolution S; equal to the window.
        mask: SS uint8, 255 = object.
        reference: HW3 uint8, photo of the object whose identity is kept.
        reference_mask: HW uint8, 255 = object.
        painted: SS uint8, the dilated mask, inside which pixels are generated.
        identity_pixels: ss3 uint8, the crop of the reference that the image encoder takes.
        identity_mask: ss uint8, 255 = object; the rest becomes grey.
        noise: [C,h,w] f32, the initial noise.
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
        """Write the inputs to an .npz file, which the contenders' processes read."""
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **asdict(self))

    @classmethod
    def load(cls, path: Path) -> EditInputs:
        """Read inputs from a file that `save` wrote."""
        with np.load(path) as arrays:
            return cls(**arrays)


def make_inputs(bundle: Bundle) -> EditInputs:
    """Draw photo and reference, and process them with the bundle's window graph.

    Raises:
        SystemExit: the bundle takes no reference, or its window differs from the photo, so that diffusers
            could not edit the same pixels.
    """
    manifest, side = bundle.manifest, bundle.manifest.resolution
    pixels, mask = draw_scene(side, side, _OBJECT_SHARE)
    reference, reference_mask = draw_scene(side, side, _OBJECT_SHARE / 2)
    photo, identity = load_photo(pixels), manifest.identity
    if identity is None:
        raise SystemExit(f"the bundle {manifest.name!r} takes no reference; expected a bundle with an IP-Adapter")
    backend = OnnxRuntimeBackend(bundle, graphs=("window",))
    encoder = Encoder(bundle, backend)
    region = load_region(mask, photo)
    window = encoder.crop_photo(photo, region, None, side)[0].images
    if not np.array_equal(window.pixels, pixels):
        raise SystemExit("the window differs from the photo; expected equal pixels; draw a larger object")
    reference_photo, object_mask = load_reference(reference, reference_mask)
    crop = encoder.crop_window(
        Photo(pixels=reference_photo), whole_region(object_mask), identity_box(object_mask), identity.size
    )
    cells = side // manifest.latent_factor
    inputs = EditInputs(
        photo=pixels,
        mask=mask,
        reference=reference,
        reference_mask=reference_mask,
        painted=window.edit_mask,
        identity_pixels=crop.pixels,
        identity_mask=crop.object_mask,
        noise=draw_noise(SEED, 0, 0, (manifest.latent_channels, cells, cells)),
        ids=np.concatenate([encoder.tokenize(""), encoder.tokenize(PROMPT)]),
    )
    backend.close()
    return inputs
