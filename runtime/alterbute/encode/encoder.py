"""Encoding of pictures and prompts to the UNet's inputs; results are cached by content."""

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
    whole_region,
)
from alterbute.images.photo import Bytes

CACHE_BYTES: Final = 256 << 20
_KEPT_PROMPTS: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WindowImages:
    """The window: the part of a picture that the model sees, at the model's resolution, with its masks.

    Args:
        pixels: SS3 uint8 RGB in [0,255].
        object_mask: SS uint8, 255 = object.
        edit_mask: SS uint8, 255 = generated anew (object and dilated rim, or the box), or blend weights.
        alpha: hw uint8 at the picture's resolution, how much of the edit each pixel of the box gets.
    """

    pixels: Bytes
    object_mask: Bytes
    edit_mask: Bytes
    alpha: Bytes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """An encoded subject, all f32.

    Args:
        scene: [Cs,h,w], channels that the UNet reads besides the latent.
        background: [C,h,w], clean latent of the photo's window.
        keep: [1,h,w], 1 = background.
        identity: [Ti,D] or [C,h,w] by name, `given` and `null`; empty for a bundle without identity.
    """

    scene: Array
    background: Array
    keep: Array
    identity: dict[str, Array]


class Encoder:
    """Runs the graphs before the lane: window, scene, identity and prompt.

    Every picture and prompt is encoded alone, never in a batch, so that its bits depend on nothing else.
    """

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self._bundle, self._manifest, self._backend = bundle, bundle.manifest, backend
        self._tokenizer: PromptTokenizer | None = None
        self._known_ids = lru_cache(_KEPT_PROMPTS)(self._make_ids)
        self.cache = EncodingCache(CACHE_BYTES)
        self._view_lock = Lock()

    def view(self, pixels: Bytes, region: Region, box: Box, size: int) -> WindowImages:
        """Cut the window out of a picture, and resize it and its masks.

        Args:
            pixels: HWC uint8 RGB in [0,255].
            region: The picture's masks.
            box: The part of the picture; may reach beyond it.
            size: Side of the window in pixels.
        """
        dilate = self._manifest.mask.dilate if region.dilate is None else region.dilate
        # Only the box's part is passed on, so that neither the graph nor the cache key costs more for a larger picture.
        near = box.inside(*pixels.shape[:2])
        part = np.s_[near.top : near.bottom, near.left : near.right]
        pictures = {"image": pixels, "mask": region.object, "region": region.edit, "protect": region.protect}
        parts = {id(picture): np.ascontiguousarray(picture[part]) for picture in pictures.values()}
        inputs: dict[str, Array] = {
            **{name: parts[id(picture)] for name, picture in pictures.items()},
            "box": box.moved(-near.top, -near.left).as_array(),
            "size": np.array([size, size], np.int64),
            "rules": np.array([dilate // 2, region.is_soft], np.int64),
        }
        with self._view_lock:
            out = self._encode("window", inputs)
        return WindowImages(
            pixels=out["window"], object_mask=out["object_mask"], edit_mask=out["window_mask"], alpha=out["alpha"]
        )

    def crop_photo(self, photo: Photo, region: Region, side: int | None) -> tuple[Box, WindowImages, Bytes]:
        """Choose the window of a photo and cut it out.

        Args:
            photo: The photo.
            region: Its masks.
            side: Side of the window in pixels, one of the bundle's; None chooses by the object's size.

        Returns:
            The box in the photo, the window at the model's resolution, and the box's own pixels (hw3 uint8).
        """
        box = photo_box(region.edit, self._manifest.mask.margin)
        side = side or choose_resolution(box, self._manifest.window_sides)
        return box, self.view(photo.pixels, region, box, side), cut(photo.pixels, box)

    def encode_subject(
        self, photo: Photo, region: Region, box: Box, window: WindowImages, reference: tuple[Bytes, Bytes] | None
    ) -> Scene:
        """Encode a photo's window, and the object that gives the identity.

        Args:
            photo: The photo.
            region: Its masks.
            box: The photo's window.
            window: The window at the model's resolution.
            reference: Another picture (HWC uint8) and its object (HW uint8); None takes the photo's own object.
        """
        manifest = self._manifest
        pixels, shown = reference or (photo.pixels, region.object)
        inputs = {"photo": window.pixels, "mask": window.edit_mask}
        if "reference" in manifest.scene:
            seen = window
            if reference is not None:
                seen = self.view(
                    pixels, whole_region(shown), reference_box(shown, region.object, box), len(window.pixels)
                )
            inputs |= {"reference": seen.pixels, "reference_mask": seen.object_mask}
        out = self._encode("scene", {name: array[None] for name, array in inputs.items()})
        identity = {}
        if manifest.identity is not None:
            close = self.view(pixels, whole_region(shown), identity_box(shown), manifest.identity.size)
            found = self._encode(
                "identity", {"reference": close.pixels[None], "reference_mask": close.object_mask[None]}
            )
            identity = {"given": found["identity"][0], "null": found["null_identity"][0]}
        nothing = np.zeros((0, *out["background"].shape[2:]), np.float32)
        scene = out["scene"][0] if "scene" in out else nothing
        return Scene(scene=scene, background=out["background"][0], keep=out["keep"][0], identity=identity)

    def make_conditioning(self, scene: Scene, prompt: str, negative_prompt: str) -> Conditioning:
        """Encode the prompts of a request, and join them with an encoded subject.

        Args:
            scene: The encoded subject.
            prompt: The request's prompt.
            negative_prompt: Its negative prompt.

        Raises:
            InputError: a prompt is longer than the window.
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
            InputError: the prompt is longer than the window.
        """
        out = self._encode("prompt", {"ids": self.tokenize(prompt)})
        return {name: array[0] for name, array in out.items()}

    def tokenize(self, prompt: str) -> Array:
        """Token ids [1,T] int64 of a prompt, read-only; the tokenizer is opened on first use."""
        return self._known_ids(prompt)

    def _make_ids(self, prompt: str) -> Array:
        if self._tokenizer is None:
            text = self._manifest.text
            self._tokenizer = PromptTokenizer.from_bytes(
                self._bundle.read(text.tokenizer),
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
        known = self.cache.find(key)
        if known is not None:
            return known
        outputs = self._backend.run(graph, inputs)
        for name, array in outputs.items():
            check_finite(graph, name, array)
        self.cache.keep(key, outputs)
        return outputs


def check_finite(graph: str, name: str, array: Array) -> None:
    """Refuse an output that holds NaN or infinity.

    Args:
        graph: Name of the graph, for the message.
        name: Name of the output, for the message.
        array: The output, of any dtype.

    Raises:
        EngineError: a number is not finite.
    """
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise EngineError(
            f"the graph {graph!r} gave numbers that are not finite in {name!r}",
            "finite numbers",
            "export the bundle in a wider precision, and check its weights",
        )
