"""What a contender of a whole edit is, and those that are an editor of ours over some backend."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from alterbute.backends import Array, Backend
from alterbute.bundle import open_bundle
from alterbute.editor import Editor
from alterbute.images.photo import Bytes

from benchmarks.gpu_parts.timed import HostClock, TimedBackend
from benchmarks.peer_parts.material import GUIDANCE, IDENTITY_SCALE, PROMPT, SEED, SOLVER, Material
from benchmarks.timing import forget_encodings

EDITS: Final = ("diffusers", "alterbute", "openvino")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Made:
    """One edit.

    Args:
        seconds: `whole`, from pictures and words to a picture, and its parts `encode`, `steps` and `decode`.
        latent: [C,h,w] f32, the clean latent before it is decoded.
        picture: SS3 uint8, the edited photo.
        alpha: SS uint8, how much of the edit each pixel of it got; diffusers paints the whole window.
    """

    seconds: dict[str, float]
    latent: Array
    picture: Bytes
    alpha: Bytes


class Contender(Protocol):
    """Loaded and ready; every call encodes anew."""

    def edit(self, material: Material, steps: int) -> Made:
        """A whole edit of one image."""
        ...


def open_contender(kind: str, bundle: Path, checkpoint: Path, threads: int) -> Contender:
    """Load one of `EDITS`."""
    if kind == "diffusers":
        from benchmarks.peer_parts.diffusers_edit import DiffusersEdit

        return DiffusersEdit(checkpoint, threads)
    opened = open_bundle(bundle)
    backend: Backend
    if kind == "openvino":
        from benchmarks.peer_parts.openvino_backend import OpenVinoBackend

        backend = OpenVinoBackend(opened, threads)
    else:
        from alterbute.backends.onnxruntime import OnnxRuntimeBackend

        backend = OnnxRuntimeBackend(opened, threads=threads)
    timed = TimedBackend(backend, HostClock())
    return EditorEdit(Editor(opened, backend=timed, slots=1), timed)


class EditorEdit:
    """An editor, with whatever backend."""

    def __init__(self, editor: Editor, backend: TimedBackend) -> None:
        self._editor, self._backend = editor, backend

    def edit(self, material: Material, steps: int) -> Made:
        """As `Contender.edit`."""
        forget_encodings(self._editor)
        start = time.perf_counter()
        result = self._editor.edit(
            material.photo,
            material.mask,
            PROMPT,
            reference=material.reference,
            reference_mask=material.reference_mask,
            steps=steps,
            solver=SOLVER,
            guidance=GUIDANCE,
            identity_scale=IDENTITY_SCALE,
            seed=SEED,
        )
        whole, parts = time.perf_counter() - start, result.timings
        seconds = {
            "whole": whole,
            "encode": parts["window"] + parts["encode"],
            "steps": parts["steps"],
            "decode": parts["decode"] + parts["paste"],
        }
        latent, picture = self._backend.latents[-1][0], np.asarray(result.image)
        return Made(seconds=seconds, latent=latent, picture=picture, alpha=result.alpha)
