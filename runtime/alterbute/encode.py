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
from alterbute.errors import EngineError
from alterbute.images import Box, Photo, Region, cut, identity_box, photo_box, reference_box, whole_region
from alterbute.images.photo import Bytes
from alterbute.prompt import PromptTokenizer

CACHE_BYTES: Final = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Window:
    """The part of a picture that the model sees, at the model's resolution.

    Args:
        pixels: SS3 uint8 RGB in [0,255].
        object_mask: SS uint8, 255 = object.
        edit_mask: SS uint8, 255 = what is painted anew: object and dilated rim, or the box, or blend weights.
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
        identity: [Ti,D] or [C,h,w] by name, `given` and `null`; empty for a bundle without identity.
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
        self._lock, self._view_lock = Lock(), Lock()

    def view(self, pixels: Bytes, region: Region, box: Box, size: int) -> Window:
        """The window of a picture, HWC uint8, and its masks, resized to `size` x `size`."""
        dilate = self._manifest.mask.dilate if region.dilate is None else region.dilate
        inputs: dict[str, Array] = {
            "image": pixels,
            "mask": region.object,
            "region": region.edit,
            "protect": region.protect,
            "box": box.as_array(),
            "size": np.array([size, size], np.int64),
            "rules": np.array([dilate // 2, region.is_soft], np.int64),
        }
        with self._view_lock:
            out = self._backend.run("window", inputs)
        return Window(
            pixels=out["window"], object_mask=out["object_mask"], edit_mask=out["window_mask"], alpha=out["alpha"]
        )

    def view_photo(self, photo: Photo, region: Region) -> tuple[Box, Window, Bytes]:
        """Where the model looks, what it sees there, and the box's own pixels (hw3 uint8)."""
        box = photo_box(region.edit, self._manifest.mask.margin)
        return box, self.view(photo.pixels, region, box, self._manifest.resolution), cut(photo.pixels, box)

    def encode_subject(
        self, photo: Photo, region: Region, box: Box, window: Window, reference: tuple[Bytes, Bytes] | None
    ) -> Scene:
        """Encode a photo's window with the object that gives the identity.

        Args:
            photo: The photo.
            region: Its masks.
            box: The photo's window.
            window: What the model sees there.
            reference: Another picture (HWC uint8) and its object (HW uint8); None takes the photo's own object.
        """
        manifest = self._manifest
        pixels, shown = reference or (photo.pixels, region.object)
        inputs = {"photo": window.pixels, "mask": window.edit_mask}
        if "reference" in manifest.scene:
            seen = window
            if reference is not None:
                seen = self.view(pixels, whole_region(shown), reference_box(shown, region.object, box), manifest.resolution)
            inputs |= {"reference": seen.pixels, "reference_mask": seen.object_mask}
        out = self._encode("scene", {name: array[None] for name, array in inputs.items()})
        identity = {}
        if manifest.identity is not None:
            close = self.view(pixels, whole_region(shown), identity_box(shown), manifest.identity.size)
            found = self._encode("identity", {"reference": close.pixels[None], "reference_mask": close.object_mask[None]})
            identity = {"given": found["identity"][0], "null": found["null_identity"][0]}
        nothing = np.zeros((0, *out["background"].shape[2:]), np.float32)
        scene = out["scene"][0] if "scene" in out else nothing
        return Scene(scene=scene, background=out["background"][0], keep=out["keep"][0], identity=identity)

    def encode_prompt(self, prompt: str) -> dict[str, Array]:
        """`text` [T,D] f32 of one prompt, and `pooled` [P] where the bundle has it.

        Raises:
            InputError: the prompt is longer than the window.
        """
        out = self._encode("prompt", {"ids": self.tokenize(prompt)})
        return {name: array[0] for name, array in out.items()}

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
        for name, array in outputs.items():
            check_finite(graph, name, array)
            array.setflags(write=False)
        with self._lock:
            if key not in self._cache:
                self._cache[key] = outputs
                self._cached_bytes += _size(outputs)
            while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
                self._cached_bytes -= _size(self._cache.popitem(last=False)[1])
        return outputs


def check_finite(graph: str, name: str, array: Array) -> None:
    """Refuse an output that holds NaN or infinity.

    Raises:
        EngineError: it does; the graph is named.
    """
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise EngineError(
            f"the graph {graph!r} gave numbers that are not finite in {name!r}",
            "finite numbers",
            "export the bundle in a wider precision, and check its weights",
        )


def _content_key(graph: str, inputs: Arrays) -> bytes:
    digest = hashlib.blake2b(graph.encode(), digest_size=32)
    for name, array in inputs.items():
        digest.update(f"\0{name} {array.dtype} {array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


def _size(arrays: Arrays) -> int:
    return sum(array.nbytes for array in arrays.values())
