"""Pictures and prompts to what the UNet sees, each encoded once: results are cached by their inputs' content."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Final

import numpy as np

from alterbute.backends import Array, Arrays, Backend
from alterbute.bundle import Bundle
from alterbute.images import Box, Photo, cut, identity_box, photo_box, reference_box
from alterbute.images.photo import Bytes
from alterbute.prompt import PromptTokenizer

CACHE_BYTES: Final = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Window:
    """The part of a picture that the model sees, at the model's resolution.

    Args:
        pixels: SS3 uint8 RGB in [0,255].
        object_mask: SS uint8, 255 = object.
        edit_mask: SS uint8, 255 = object and its dilated rim: what is painted anew.
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
        scene: [Cs,h,w], what the UNet sees beside the latent.
        background: [C,h,w], clean latent of the photo's window.
        keep: [1,h,w], 1 = background.
        identity: [Ti,D] by name, `given` and `null`; empty for a bundle without identity.
    """

    scene: Array
    background: Array
    keep: Array
    identity: dict[str, Array]


class Encoder:
    """The graphs before the lane: window, scene, identity and prompt.

    Every picture and prompt is encoded alone, never in a batch, so that its bits depend on nothing else.
    """

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self._bundle, self._manifest, self._backend = bundle, bundle.manifest, backend
        self._tokenizer: PromptTokenizer | None = None
        self._cache: OrderedDict[bytes, dict[str, Array]] = OrderedDict()
        self._cached_bytes = 0
        self._lock = Lock()

    def view(self, pixels: Bytes, mask: Bytes, box: Box, size: int) -> Window:
        """The window of a picture: HWC uint8 and its HW mask, resized to `size` x `size`."""
        sides = np.array([size, size], np.int64)
        out = self._backend.run("window", {"image": pixels, "mask": mask, "box": box.as_array(), "size": sides})
        return Window(
            pixels=out["window"], object_mask=out["object_mask"], edit_mask=out["window_mask"], alpha=out["alpha"]
        )

    def view_photo(self, photo: Photo, mask: Bytes) -> tuple[Box, Window, Bytes]:
        """Where the model looks, what it sees there, and the box's own pixels (hw3 uint8)."""
        box = photo_box(mask, self._manifest.mask.margin)
        return box, self.view(photo.pixels, mask, box, self._manifest.resolution), cut(photo.pixels, box)

    def encode_subject(
        self, photo: Photo, mask: Bytes, box: Box, window: Window, reference: tuple[Bytes, Bytes] | None
    ) -> Scene:
        """Encode a photo's window with the object that gives the identity.

        Args:
            photo: The photo.
            mask: HW uint8, 255 = object.
            box: The photo's window.
            window: What the model sees there.
            reference: Another picture (HWC uint8) and its object (HW uint8); None takes the photo's own object.
        """
        manifest = self._manifest
        pixels, shown = reference or (photo.pixels, mask)
        inputs = {"photo": window.pixels, "mask": window.edit_mask}
        if "reference" in manifest.scene:
            seen = window
            if reference is not None:
                seen = self.view(pixels, shown, reference_box(shown, mask, box), manifest.resolution)
            inputs |= {"reference": seen.pixels, "reference_mask": seen.object_mask}
        out = self._encode("scene", {name: array[None] for name, array in inputs.items()})
        identity = {}
        if manifest.identity is not None:
            close = self.view(pixels, shown, identity_box(shown), manifest.identity.size)
            found = self._encode("identity", {"reference": close.pixels[None], "reference_mask": close.object_mask[None]})
            identity = {"given": found["identity"][0], "null": found["null_identity"][0]}
        return Scene(scene=out["scene"][0], background=out["background"][0], keep=out["keep"][0], identity=identity)

    def encode_prompt(self, prompt: str) -> Array:
        """[T,D] f32 of one prompt.

        Raises:
            InputError: the prompt is longer than the window.
        """
        text: Array = self._encode("prompt", {"ids": self.tokenize(prompt)})["text"][0]
        return text

    def tokenize(self, prompt: str) -> Array:
        """[1,T] int64; the tokenizer is opened on first use."""
        if self._tokenizer is None:
            text = self._manifest.text
            self._tokenizer = PromptTokenizer.from_bytes(
                self._bundle.read(text.tokenizer),
                tokens=text.tokens,
                start_id=text.start_id,
                end_id=text.end_id,
                pad_id=text.pad_id,
            )
        return self._tokenizer.encode([prompt])

    def _encode(self, graph: str, inputs: Arrays) -> dict[str, Array]:
        """Run a graph, or take its outputs from an earlier run on the same bytes."""
        key = _content_key(graph, inputs)
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        outputs = self._backend.run(graph, inputs)
        for array in outputs.values():
            array.setflags(write=False)
        with self._lock:
            if key not in self._cache:
                self._cache[key] = outputs
                self._cached_bytes += _size(outputs)
            while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
                self._cached_bytes -= _size(self._cache.popitem(last=False)[1])
        return outputs


def _content_key(graph: str, inputs: Arrays) -> bytes:
    digest = hashlib.blake2b(graph.encode(), digest_size=32)
    for name, array in inputs.items():
        digest.update(f"\0{name} {array.dtype} {array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


def _size(arrays: Arrays) -> int:
    return sum(array.nbytes for array in arrays.values())
