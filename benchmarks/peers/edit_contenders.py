"""Contenders of a whole edit: diffusers, and alterbute's editor on ONNX Runtime or OpenVINO."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import numpy as np
from alterbute.backends import Backend
from alterbute.bundle import open_bundle
from alterbute.editor import Editor

from benchmarks.common.timing import clear_encodings
from benchmarks.gpu.timed import HostClock, TimedBackend
from benchmarks.peers.contender import EditContender, TimedEdit
from benchmarks.peers.inputs import GUIDANCE, IDENTITY_SCALE, PROMPT, SEED, SOLVER, EditInputs

EDITS: Final = ("diffusers", "alterbute", "openvino")


def open_contender(kind: str, bundle: Path, checkpoint: Path, threads: int) -> EditContender:
    """Load a contender.

    Args:
        kind: Name of the contender, one of `EDITS`.
        bundle: The bundle's folder.
        checkpoint: The checkpoint that the bundle was exported from.
        threads: CPU threads.
    """
    if kind == "diffusers":
        from benchmarks.peers.diffusers_edit import DiffusersEdit

        return DiffusersEdit(checkpoint, threads)
    opened = open_bundle(bundle)
    backend: Backend
    if kind == "openvino":
        from benchmarks.peers.openvino_backend import OpenVinoBackend

        backend = OpenVinoBackend(opened, threads)
    else:
        from alterbute.backends.onnxruntime import OnnxRuntimeBackend

        backend = OnnxRuntimeBackend(opened, threads=threads)
    timed = TimedBackend(backend, HostClock())
    return EditorEdit(Editor(opened, backend=timed, slots=1), timed)


class EditorEdit:
    """alterbute's editor on a backend."""

    def __init__(self, editor: Editor, backend: TimedBackend) -> None:
        self._editor, self._backend = editor, backend

    def edit(self, inputs: EditInputs, steps: int) -> TimedEdit:
        """Edit one image with nothing cached, and time the edit and its parts."""
        clear_encodings(self._editor)
        start = time.perf_counter()
        result = self._editor.edit(
            inputs.photo,
            inputs.mask,
            PROMPT,
            reference=inputs.reference,
            reference_mask=inputs.reference_mask,
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
        return TimedEdit(seconds=seconds, latent=latent, picture=picture, alpha=result.alpha)
