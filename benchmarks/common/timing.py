"""Timing of calls after a warm-up, timing of an editor's calls of ONNX Runtime, and test images."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from alterbute.backends import Arrays
from alterbute.backends.onnxruntime import OnnxRuntimeBackend
from alterbute.bundle import Bundle
from alterbute.editor import Editor
from alterbute.encode.prompt import first_prompt
from alterbute.images import Photo, load_mask, load_photo
from alterbute.images.photo import Bytes

RANKS: Final = (50, 90, 99)


def time_calls(call: Callable[[], object], runs: int, warm_up: int) -> tuple[list[float], list[float]]:
    """Wall seconds of each warm-up call, and of each counted call.

    Args:
        call: The function to time.
        runs: Number of counted calls.
        warm_up: Number of calls before them.
    """
    seconds = []
    for _ in range(warm_up + runs):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds[:warm_up], seconds[warm_up:]


def summary_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Median, p90, p99, minimum and mean in milliseconds, and the number of values."""
    times = {f"p{rank}_ms": float(np.percentile(seconds, rank)) * 1000 for rank in RANKS}
    times |= {"min_ms": min(seconds) * 1000, "mean_ms": float(np.mean(seconds)) * 1000}
    return {**{name: round(value, 3) for name, value in times.items()}, "n": len(seconds)}


class Stopwatch:
    """Seconds inside ONNX Runtime's calls, by graph; the latest inputs of each graph."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)
        self.inputs: dict[str, dict[str, Any]] = {}

    def start(self, backend: OnnxRuntimeBackend) -> None:
        """Wrap the backend's sessions, so that their runs are timed; waits until all are loaded."""
        for graph, session in list(backend._sessions.items()):
            timed: Future[Any] = Future()
            timed.set_result(_TimedSession(session.result(), graph, self))
            backend._sessions[graph] = timed

    @contextmanager
    def call(self, graph: str) -> Any:
        """Context manager that adds the duration of its block to a graph's times."""
        start = time.perf_counter()
        yield
        self.seconds[graph].append(time.perf_counter() - start)

    def reset(self) -> None:
        """Remove all recorded times."""
        self.seconds.clear()

    @property
    def total_s(self) -> float:
        """Sum over all graphs, in seconds."""
        return sum(sum(times) for times in self.seconds.values())

    @property
    def calls(self) -> dict[str, int]:
        """Number of calls, by graph."""
        return {graph: len(times) for graph, times in self.seconds.items()}


class _TimedSession:
    """An `InferenceSession` whose runs are timed."""

    def __init__(self, session: Any, graph: str, watch: Stopwatch) -> None:
        self._session, self._graph, self._watch = session, graph, watch
        self.get_outputs, self.io_binding = session.get_outputs, session.io_binding

    def run(self, names: list[str], inputs: Arrays) -> Any:
        self._watch.inputs[self._graph] = dict(inputs)
        with self._watch.call(self._graph):
            return self._session.run(names, inputs)

    def run_with_iobinding(self, binding: Any) -> None:
        with self._watch.call(self._graph):
            self._session.run_with_iobinding(binding)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


def open_timed_editor(bundle: Bundle, *, threads: int | None = None, slots: int = 1) -> tuple[Editor, Stopwatch, float]:
    """Open an editor on the CPU whose engine calls are timed.

    Args:
        bundle: The bundle.
        threads: CPU threads; None takes the backend's default.
        slots: Maximum number of images that are denoised together.

    Returns:
        The editor, its stopwatch, and the seconds that loading all engines took.
    """
    start, watch = time.perf_counter(), Stopwatch()
    backend = OnnxRuntimeBackend(bundle, threads=threads)
    editor = Editor(bundle, backend=backend, slots=slots)
    watch.start(backend)
    return editor, watch, time.perf_counter() - start


def clear_encodings(editor: Editor) -> None:
    """Clear the cache of encodings, so that the next edit encodes everything."""
    editor._encoder.cache.clear()


def load_sample(bundle: Bundle, side: int | None = None) -> tuple[Photo, Bytes, str]:
    """Photo, mask HW uint8 and prompt: the bundle's sample photo, or a drawn one if the bundle has none.

    Args:
        bundle: The bundle.
        side: Side in pixels of a photo that is drawn instead of the sample; None takes the sample, or draws
            a photo of twice the model's resolution.
    """
    prompt = first_prompt(bundle.manifest.attributes) or "color: red"
    if side is None and bundle.has("sample/photo.png"):
        photo = load_photo(bundle.read("sample/photo.png"))
        return photo, load_mask(bundle.read("sample/mask.png"), photo), prompt
    side = side or 2 * bundle.manifest.resolution
    pixels, mask = draw_scene(side, side, 0.05)
    return load_photo(pixels), mask, prompt


def draw_scene(height: int, width: int, share: float) -> tuple[Bytes, Bytes]:
    """Draw a photo HWC uint8 with a disc near its centre, and the disc's mask HW uint8.

    Args:
        height: Rows of pixels.
        width: Columns of pixels.
        share: Share of the photo that the disc covers, 0..1.
    """
    rows, columns = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None]
    waves = np.sin(rows / 37) + np.cos(columns / 53)
    noise = np.random.default_rng(0).integers(0, 24, (height, width, 1), np.uint8)
    pixels = (np.stack([80 + 40 * waves, 120 + 30 * waves, 150 - 35 * waves], axis=2).astype(np.uint8) + noise).astype(
        np.uint8
    )
    radius_square = share * height * width / np.pi
    distance = (rows - 0.45 * height) ** 2 + (columns - 0.55 * width) ** 2
    mask = np.where(distance < radius_square, np.uint8(255), np.uint8(0))
    pixels[mask > 0] = (pixels[mask > 0] // 2 + np.array([90, 20, 10])).astype(np.uint8)
    return pixels, mask
