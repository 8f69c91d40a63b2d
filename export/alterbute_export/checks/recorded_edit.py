"""Recorded edits: inputs and outputs of every run of a bundle's graphs, to measure ranges and errors with."""

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
    """Inputs and outputs of one run of a graph, by name."""

    inputs: dict[str, Array]
    outputs: dict[str, Array]


def record_edit(
    bundle: Bundle, backend: Backend | None = None, *, steps: int = _STEPS, seed: int = 7
) -> dict[str, list[GraphCall]]:
    """Edit the bundle's sample photo, or a drawn one, and record every run of every graph.

    Args:
        bundle: The bundle.
        backend: The backend that runs its graphs; None runs them on the CPU, one graph in memory at a time.
        steps: Steps of the edit.
        seed: Seed of the noise.

    Returns:
        The runs by graph, in order.
    """
    recorder = _Recorder(backend or StreamingBackend(bundle))
    photo, mask = read_sample_pictures(bundle)
    prompt = first_prompt(bundle.manifest.attributes) or "color: red"
    with Editor(bundle, backend=recorder) as editor:
        editor.edit(photo, mask, prompt, steps=steps, seed=seed)
    return dict(recorder.calls)


class _Recorder:
    """A backend that keeps copies of the inputs and outputs of another backend."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner
        self.min_slots, self.min_rows = inner.min_slots, inner.min_rows
        self.precisions = inner.precisions
        self.calls: defaultdict[str, list[GraphCall]] = defaultdict(list)

    def run(self, graph: str, inputs: Arrays, outputs: Arrays | None = None) -> dict[str, Array]:
        # Copied before the run, which may write into these arrays.
        input_copies = {name: array.copy() for name, array in inputs.items()}
        results = self._inner.run(graph, inputs, outputs)
        output_copies = {name: array.copy() for name, array in results.items()}
        self.calls[graph].append(GraphCall(inputs=input_copies, outputs=output_copies))
        return results

    def close(self) -> None:
        self._inner.close()


def read_sample_pictures(bundle: Bundle) -> tuple[Image.Image, Image.Image]:
    """The bundle's sample photo and mask; drawn ones if the bundle has none."""
    if all(bundle.has(name) for name in _SAMPLES):
        photo, mask = (Image.open(io.BytesIO(bundle.read(name))) for name in _SAMPLES)
        return photo.convert("RGB"), mask
    return draw_pictures(bundle.manifest.resolution)


def draw_pictures(side: int) -> tuple[Image.Image, Image.Image]:
    """A photo of smooth colour gradients and a mask of its middle, both `side` x `side` pixels."""
    ramp = np.linspace(0, 255, side)
    pixels = np.stack(
        [ramp[None] + 0 * ramp[:, None], ramp[:, None] + 0 * ramp[None], 255 - np.add.outer(ramp, ramp) / 2], axis=2
    )
    object_mask = np.zeros((side, side), np.uint8)
    object_mask[side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = 255
    return Image.fromarray(pixels.astype(np.uint8)), Image.fromarray(object_mask)
