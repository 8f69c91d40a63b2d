"""Encodes pictures and prompts to the UNet's inputs; outputs are cached by content."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Final

import numpy as np

from alterbute.backends import Array, Arrays, Backend
from alterbute.bundle import Bundle
from alterbute.denoise.job import Conditioning
from alterbute.encode.cache import EncodingCache, content_key
from alterbute.encode.prompt import PromptTokenizer
from alterbute.errors import EngineError
from alterbute.images import (
    Box,
    Photo,
    Region,
    choose_resolution,
    cut,
    identity_box,
    photo_box,
    reference_box,
    split_region,
    whole_region,
)
from alterbute.images.color import from_srgb, to_srgb
from alterbute.images.photo import Bytes, Pixels, to_8_bits

CACHE_BYTES: Final = 256 << 20
_CACHED_PROMPTS: Final = 256
_OPAQUE: Final = np.full((1, 1), 255, np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WindowImages:
    """The window: the part of a picture that the model reads, at the model's resolution, with its masks.

    Args:
        pixels: [S,S,3] uint8 RGB in [0,255].
        object_mask: [S,S] uint8, 255 = object.
        edit_mask: [S,S] uint8, 255 = generated anew: the dilated object, its box, or where blend weights are a quarter or more.
        alpha: [h,w] uint8 at the picture's resolution, blend weight of the edit at each pixel of the box.
    """

    pixels: Bytes
    object_mask: Bytes
    edit_mask: Bytes
    alpha: Bytes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CroppedWindow:
    """A window of a photo, cropped and not encoded.

    Args:
        box: The part of the photo that the window covers.
        pixels: [h,w,3] uint8 or uint16, the photo's pixels in the box, in its own colour space.
        srgb: The same in sRGB; `pixels` themselves for a photo in sRGB.
        restored: `srgb` converted back to the photo's space, which shows what the conversion has changed; likewise.
        images: The box resized to the model's resolution, with masks and alpha.
        reference: The window of the reference, for a scene that has one; the photo's own window without a reference.
        close_up: The object that provides the identity; None for a bundle without identity.
    """

    box: Box
    pixels: Pixels
    srgb: Pixels
    restored: Pixels
    images: WindowImages
    reference: WindowImages
    close_up: WindowImages | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """An encoded subject, all f32.

    Args:
        scene: [Cs,h,w], the UNet's input channels besides the latent.
        background: [C,h,w], clean latent of the photo's window.
        keep: [1,h,w], 1 = background.
        identity: [Ti,D] or [C,h,w] by name, `given` and `null`; empty for a bundle without identity.
    """

    scene: Array
    background: Array
    keep: Array
    identity: dict[str, Array]


class Encoder:
    """Runs the graphs that precede denoising: window, scene, identity and prompt.

    Every picture and prompt is encoded alone, never in a batch, so that its bits do not depend on other images.

    Args:
        bundle: An open bundle.
        backend: The backend that runs the bundle's graphs.
    """

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self.bundle, self.manifest, self._backend = bundle, bundle.manifest, backend
        self._tokenizer: PromptTokenizer | None = None
        self._cached_ids = lru_cache(_CACHED_PROMPTS)(self._make_ids)
        self.cache = EncodingCache(CACHE_BYTES)
        self._window_lock = Lock()

    def crop_window(self, picture: Photo, region: Region, box: Box, size: int) -> WindowImages:
        """Crop a box of a picture, convert it to 8-bit sRGB, and resize it and its masks to the window.

        What lies under transparent pixels reaches no pixel of the window.

        Args:
            picture: The picture.
            region: The picture's masks.
            box: The window's box in the picture; may extend beyond the picture's edges.
            size: Side S of the window in pixels.
        """
        dilate = self.manifest.mask.dilate if region.dilate is None else region.dilate
        # Only the box is passed on, so that neither the graph nor the cache key costs more for a larger picture.
        clipped = box.inside(picture.height, picture.width)
        part = np.s_[clipped.top : clipped.bottom, clipped.left : clipped.right]
        masks = {"mask": region.object, "region": region.edit, "protect": region.protect}
        parts = {id(mask): np.ascontiguousarray(mask[part]) for mask in masks.values()}
        inputs: dict[str, Array] = {
            "image": to_srgb(to_8_bits(np.ascontiguousarray(picture.pixels[part])), picture.icc),
            "opacity": _OPAQUE if picture.alpha is None else _visible(picture.alpha[part]),
            **{name: parts[id(mask)] for name, mask in masks.items()},
            "box": box.moved(-clipped.top, -clipped.left).as_array(),
            "size": np.array([size, size], np.int64),
            # Half of the rim grows, the other half is its soft edge.
            "rules": np.array([dilate // 2, region.is_soft, region.rim - region.rim // 2, region.rim // 2], np.int64),
        }
        with self._window_lock:
            out = self._encode("window", inputs)
        return WindowImages(
            pixels=out["window"], object_mask=out["object_mask"], edit_mask=out["window_mask"], alpha=out["alpha"]
        )

    def crop_photo(
        self, photo: Photo, region: Region, reference: tuple[Bytes, Bytes] | None, side: int | None
    ) -> tuple[CroppedWindow, ...]:
        """Choose the windows of a photo and crop them, with what the identity is read from.

        Args:
            photo: The photo.
            region: The photo's masks.
            reference: Another picture (HWC uint8) and its object mask (HW uint8); None takes the photo's own objects.
            side: Side of the windows in pixels, one of the bundle's; None chooses by the object's size.

        Returns:
            One window, or one for each of several distant objects.
        """
        mask, sides = self.manifest.mask, self.manifest.window_sides
        return tuple(
            self._crop_object(photo, part, reference, side) for part in split_region(region, mask.margin, sides)
        )

    def _crop_object(
        self, photo: Photo, region: Region, reference: tuple[Bytes, Bytes] | None, side: int | None
    ) -> CroppedWindow:
        manifest = self.manifest
        box = photo_box(region.edit, manifest.mask.margin, region.rim)
        window = self.crop_window(photo, region, box, side or choose_resolution(box, manifest.window_sides))
        picture, object_mask = (
            (photo, region.object) if reference is None else (Photo(pixels=reference[0]), reference[1])
        )
        reference_window = close_up = None
        if "reference" in manifest.scene and reference is not None:
            nearby = reference_box(object_mask, region.object, box)
            reference_window = self.crop_window(picture, whole_region(object_mask), nearby, len(window.pixels))
        if manifest.identity is not None:
            around = identity_box(object_mask)
            close_up = self.crop_window(picture, whole_region(object_mask), around, manifest.identity.size)
        own = cut(photo.pixels, box)
        srgb = to_srgb(own, photo.icc)
        return CroppedWindow(
            box=box,
            pixels=own,
            srgb=srgb,
            restored=from_srgb(srgb, photo.icc),
            images=window,
            reference=reference_window or window,
            close_up=close_up,
        )

    def encode_window(self, window: CroppedWindow) -> Scene:
        """Encode a window of a photo, and the object that provides the identity."""
        inputs = {"photo": window.images.pixels, "mask": window.images.edit_mask}
        if "reference" in self.manifest.scene:
            inputs |= {"reference": window.reference.pixels, "reference_mask": window.reference.object_mask}
        out = self._encode("scene", {name: array[None] for name, array in inputs.items()})
        identity = {}
        if window.close_up is not None:
            encoded = self._encode(
                "identity",
                {"reference": window.close_up.pixels[None], "reference_mask": window.close_up.object_mask[None]},
            )
            identity = {"given": encoded["identity"][0], "null": encoded["null_identity"][0]}
        no_channels = np.zeros((0, *out["background"].shape[2:]), np.float32)
        scene = out["scene"][0] if "scene" in out else no_channels
        return Scene(scene=scene, background=out["background"][0], keep=out["keep"][0], identity=identity)

    def decode_roundtrip(self, scene: Scene) -> Bytes:
        """Decode the latent of the photo's own window to [S,S,3] uint8, with the engine that decodes edits.

        Raises:
            EngineError: the decoder failed, or gave numbers that are not finite.
        """
        roundtrip: Bytes = self._encode("decode", {"latent": scene.background[None]})["image"][0]
        return roundtrip

    def make_conditioning(self, scene: Scene, prompt: str, negative_prompt: str) -> Conditioning:
        """Encode the prompts of a request, and join them with an encoded subject.

        Args:
            scene: The encoded subject.
            prompt: The request's prompt.
            negative_prompt: The request's negative prompt.

        Raises:
            InputError: a prompt is longer than the text encoder's window.
        """
        prompts = {"prompt": self.encode_prompt(prompt), "negative": self.encode_prompt(negative_prompt)}
        return Conditioning(
            scene=scene.scene,
            background=scene.background,
            keep=scene.keep,
            text={name: encoded["text"] for name, encoded in prompts.items()},
            pooled={name: encoded["pooled"] for name, encoded in prompts.items() if "pooled" in encoded},
            identity=scene.identity,
        )

    def encode_prompt(self, prompt: str) -> dict[str, Array]:
        """Encode one prompt to `text` [T,D] f32, and `pooled` [P] f32 where the bundle has it.

        Raises:
            InputError: the prompt is longer than the text encoder's window.
        """
        out = self._encode("prompt", {"ids": self.tokenize(prompt)})
        return {name: array[0] for name, array in out.items()}

    def tokenize(self, prompt: str) -> Array:
        """Token ids [1,T] int64 of a prompt, read-only; the tokenizer is opened on first use."""
        return self._cached_ids(prompt)

    def _make_ids(self, prompt: str) -> Array:
        if self._tokenizer is None:
            text = self.manifest.text
            self._tokenizer = PromptTokenizer.from_bytes(
                self.bundle.read(text.tokenizer),
                tokens=text.tokens,
                start_id=text.start_id,
                end_id=text.end_id,
                pad_id=text.pad_id,
            )
        ids = self._tokenizer.encode([prompt])
        ids.setflags(write=False)
        return ids

    def _encode(self, graph: str, inputs: Arrays) -> dict[str, Array]:
        """Run a graph, or return the cached outputs of a run on the same bytes."""
        key = content_key(graph, inputs)
        cached = self.cache.find(key)
        if cached is not None:
            return cached
        outputs = self._backend.run(graph, inputs)
        for name, array in outputs.items():
            check_finite(graph, name, array)
        self.cache.store(key, outputs)
        return outputs


def _visible(alpha: Pixels) -> Bytes:
    """Opacity in 8 bits; a pixel that is visible at all stays visible."""
    return np.maximum(to_8_bits(alpha), alpha > 0)


def check_finite(graph: str, name: str, array: Array) -> None:
    """Refuse an output that holds NaN or infinity.

    Args:
        graph: Name of the graph, for the message.
        name: Name of the output, for the message.
        array: The output, of any shape and dtype; integers pass.

    Raises:
        EngineError: the output holds NaN or infinity.
    """
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise EngineError(
            f"the graph {graph!r} gave numbers that are not finite in {name!r}",
            "finite numbers",
            "export the bundle in a higher precision, and check its weights",
        )
