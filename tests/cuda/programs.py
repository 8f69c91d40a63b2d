"""Programs over the stand-in of CUDA: edits through the public API, with marks in the log. Each runs in a process of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from alterbute.editor import Editor
from alterbute.errors import AlterbuteError, DeviceError

from tests.cuda.control import alive, arm, mark

BACKEND = "onnxruntime-cuda"
STEPS = 6


def _open(bundle: str, slots: int = 2) -> Editor:
    return Editor.open(bundle, backend=BACKEND, slots=slots)


def _edit(editor: Editor, prompt: str = "color: red", **options: Any) -> None:
    side = editor.manifest.resolution
    photo = np.full((side, side, 3), 90, np.uint8)
    mask = np.zeros((side, side), np.uint8)
    mask[side // 4 : -side // 4, side // 4 : -side // 4] = 255
    editor.edit(photo, mask, prompt, **{"steps": STEPS, "seed": 1, **options})


def _attempt(action: Callable[[], object]) -> dict[str, Any]:
    """How an action ended: the class of its error, whether that is fatal, and its message; None and "" when it went well."""
    try:
        action()
    except AlterbuteError as fault:
        is_fatal = isinstance(fault, DeviceError) and fault.is_fatal
        return {"error": type(fault).__name__, "is_fatal": is_fatal, "message": str(fault)}
    except Exception as fault:
        return {"error": f"raw {type(fault).__name__}", "is_fatal": None, "message": str(fault)[:500]}
    return {"error": None, "is_fatal": None, "message": ""}


def warm_up_and_edit(bundle: str) -> dict[str, int]:
    """Open, warm up, edit twice, once with fewer rows in the middle, and close; returns what is alive then."""
    with _open(bundle) as editor:
        mark("opened")
        editor.warm_up()
        mark("warm")
        _edit(editor)
        mark("first edit")
        _edit(editor, guidance_interval=(0.4, 0.7))
        mark("second edit")
    mark("closed")
    return alive()


def warm_up(bundle: str, slots: int) -> None:
    """Open an editor of so many slots and warm it up."""
    with _open(bundle, slots) as editor:
        mark("opened")
        editor.warm_up()
        mark("warm")


def edit_from_threads(bundle: str, count: int) -> None:
    """Edit with one editor from so many new threads, one after another, without a warm-up."""
    with _open(bundle) as editor:
        for _ in range(count):
            thread = threading.Thread(target=_edit, args=(editor,))
            thread.start()
            thread.join()


def edit_from_threads_at_once(bundle: str, count: int) -> list[dict[str, Any]]:
    """Warm up one editor, and edit with it from so many threads at the same time."""
    outcomes: list[dict[str, Any]] = []
    with _open(bundle) as editor:
        editor.warm_up()
        mark("warm")
        threads = [
            threading.Thread(target=lambda: outcomes.append(_attempt(lambda: _edit(editor)))) for _ in range(count)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return outcomes


def open_and_edit_in_two_threads(bundle: str, count: int) -> list[dict[str, Any]]:
    """Open, warm up, edit and close an editor so often in each of two threads; returns the failures."""
    outcomes: list[dict[str, Any]] = []

    def once(is_warm: bool) -> None:
        with _open(bundle) as editor:
            if is_warm:
                editor.warm_up()
            _edit(editor, steps=2)

    def work() -> None:
        for turn in range(count):
            outcomes.append(_attempt(lambda turn=turn: once(turn % 2 == 0)))  # type: ignore[misc]

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 2 * count
    return [outcome for outcome in outcomes if outcome["error"]]


def run_out_of_memory(bundle: str, group: str, moments: list[str]) -> dict[str, Any]:
    """Open, warm up, edit and close, with memory that ends at each of these moments; at last once without a fault.

    Args:
        bundle: The bundle.
        group: `allocation` or `pinned`.
        moments: `3`: the third allocation fails; `3+`: all from the third on.

    Returns:
        Outcome by moment, and that of the edit without a fault as "none".
    """

    def once() -> None:
        with _open(bundle) as editor:
            editor.warm_up()
            _edit(editor, steps=2)

    outcomes: dict[str, Any] = {}
    for moment in moments:
        arm(f"{group}:{moment}=2")
        outcomes[moment] = _attempt(once)
        arm("")
    return {**outcomes, "none": _attempt(once)}


def lose_device_while_open(bundle: str, fault: str) -> dict[str, Any]:
    """Warm up and edit, lose the device at a fault, edit again, and close: how each of the three ended."""
    editor = _open(bundle)
    editor.warm_up()
    _edit(editor)
    arm(fault)
    first = _attempt(lambda: _edit(editor))
    second = _attempt(lambda: _edit(editor))
    return {"first": first, "second": second, "close": _attempt(editor.close)}


def lose_device_while_opening(bundle: str, fault: str) -> dict[str, Any]:
    """Lose the device while an editor is opened and warmed up: how that ended, and how opening another one ended."""

    def once() -> None:
        with _open(bundle) as editor:
            editor.warm_up()

    arm(fault)
    return {"first": _attempt(once), "second": _attempt(once)}


def edit_on_second_device(bundle: str) -> None:
    """Edit on GPU 1 of two, from a thread that has never chosen a device."""
    import onnxruntime
    from alterbute.backends import open_backend
    from alterbute.backends.cuda.runtime import load_cuda
    from alterbute.backends.onnxruntime_cuda import OnnxRuntimeCudaBackend
    from alterbute.bundle import open_bundle

    opened = open_bundle(Path(bundle))
    backend = OnnxRuntimeCudaBackend(
        opened, ort=onnxruntime, cuda_api=load_cuda(), host=open_backend("onnxruntime", opened), device=1
    )
    with Editor(opened, backend=backend, slots=2) as editor:
        mark("opened")
        editor.warm_up()
        thread = threading.Thread(target=_edit, args=(editor,))
        thread.start()
        thread.join()
    mark("closed")


def launch_steps(folder: str, slots: int, rows: int, file: str | None = None) -> None:
    """Launch the step graph of a bundle at one shape until it is captured, through the product's backend.

    Args:
        folder: The bundle.
        slots: Slots of the launch, the size of the lane.
        rows: UNet rows of the launch.
        file: A file of the step graph, in fp16 and without a prologue, in place of the one that the backend chooses.
    """
    from dataclasses import replace

    from alterbute.backends import DeviceBackend, choose_backend
    from alterbute.bundle import LaunchShape, Variant, open_bundle

    bundle = open_bundle(Path(folder))
    manifest, graph = bundle.manifest, bundle.manifest.graphs["step"]
    buckets = (LaunchShape(slots=slots, rows=rows),)
    variants = (
        (Variant(backend=BACKEND, file=file, buckets=buckets, precision="fp16"),)
        if file
        else tuple(
            replace(variant, buckets=buckets) if variant.backend == BACKEND else variant for variant in graph.variants
        )
    )
    graphs = {**manifest.graphs, "step": replace(graph, variants=variants)}
    bundle = replace(bundle, manifest=replace(manifest, graphs=graphs))
    backend = choose_backend(BACKEND, bundle).backend
    assert isinstance(backend, DeviceBackend)
    cells = manifest.resolution // manifest.latent_factor
    sizes = {"B": slots, "N": rows, "h": cells, "w": cells, "T": manifest.text.tokens}
    shapes = {
        edge.name: [axis if isinstance(axis, int) else sizes[axis] for axis in edge.shape] for edge in graph.inputs
    }
    inputs = {edge.name: np.zeros(shapes[edge.name], edge.dtype) for edge in graph.inputs if edge.name != "state"}
    steps = backend.open_step_state(tuple(shapes["state"]))
    mark("steps")
    for _ in range(4):
        steps.launch(inputs, inputs)
        steps.flip()
    mark("end of steps")
    backend.close()
