"""What the graphs of a bundle are fed in a real edit: recorded once, to measure ranges and errors on."""

from __future__ import annotations

import io
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

import numpy as np
from alterbute.backends import Array, Arrays, Backend
from alterbute.bundle import Bundle
from alterbute.editor import Editor
from alterbute.encode.prompt import first_prompt
from PIL import Image

from alterbute_export.onnx_io.sessions import StreamingBackend

_SAMPLES: Final = ("sample/photo.png", "sample/mask.png")
_STEPS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GraphCall:
    """One run of a graph: what went in, and what fp32 made of it."""

    inputs: dict[str, Array]
    outputs: dict[str, Array]


def record_edit(
    bundle: Bundle, backend: Backend | None = None, *, steps: int = _STEPS, seed: int = 7
) -> dict[str, list[GraphCall]]:
    """Edit the bundle's sample photo, or a drawn one; every run of every graph, by graph.

    Args:
        bundle: The bundle.
        backend: What runs its graphs; the CPU, one graph at a time, when left out.
        steps: Of the edit.
        seed: Of the noise.
    """
    recorder = _Recorder(backend or StreamingBackend(bundle))
    photo, mask = sample_pictures(bundle)
    prompt = first_prompt(bundle.manifest.attributes) or "color: red"
    with Editor(bundle, backend=recorder) as editor:
        editor.edit(photo, mask, prompt, steps=steps, seed=seed)
    return dict(recorder.calls)


class _Recorder:
    """A backend that keeps copies of what passes through another."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner
        self.min_slots, self.min_rows = inner.min_slots, inner.min_rows
        self.calls: defaultdict[str, list[GraphCall]] = defaultdict(list)

    def run(self, graph: str, inputs: Arrays, outputs: Arrays | None = None) -> dict[str, Array]:
        seen = {name: array.copy() for name, array in inputs.items()}
        made = self._inner.run(graph, inputs, outputs)
        self.calls[graph].append(GraphCall(inputs=seen, outputs={name: array.copy() for name, array in made.items()}))
        return made

    def close(self) -> None:
        self._inner.close()


def sample_pictures(bundle: Bundle) -> tuple[Image.Image, Image.Image]:
    """The bundle's sample photo and mask, or drawn ones."""
    if all(bundle.has(name) for name in _SAMPLES):
        photo, mask = (Image.open(io.BytesIO(bundle.read(name))) for name in _SAMPLES)
        return photo.convert("RGB"), mask
    return drawn_pictures(bundle.manifest.resolution)


def drawn_pictures(side: int) -> tuple[Image.Image, Image.Image]:
    """A photo of slow colours and a mask of its middle, `side` pixels wide."""
    rise = np.linspace(0, 255, side)
    pixels = np.stack(
        [rise[None] + 0 * rise[:, None], rise[:, None] + 0 * rise[None], 255 - np.add.outer(rise, rise) / 2], axis=2
    )
    object_mask = np.zeros((side, side), np.uint8)
    object_mask[side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = 255
    return Image.fromarray(pixels.astype(np.uint8)), Image.fromarray(object_mask)
