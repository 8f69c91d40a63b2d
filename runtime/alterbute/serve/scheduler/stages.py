"""The work before and after the lane: encode, decode, previews on the device, and paste beside it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor

from alterbute.denoise.lane import Finished, Job
from alterbute.editor import Editor
from alterbute.errors import AlterbuteError, EngineError
from alterbute.images.photo import Bytes
from alterbute.serve.scheduler.observer import Observer
from alterbute.serve.scheduler.preview import clean_estimate, preview_steps
from alterbute.serve.scheduler.queues import Preview, Roster, Task
from alterbute.serve.scheduler.server_request import Edit

_log = logging.getLogger(__name__)


class Around:
    """Pieces of work that a device's owner does between two launches.

    Args:
        editor: The device's.
        roster: The device's.
        pool: Where work that needs no device is done.
        slots: Images in the lane at most: as many are encoded ahead.
        observer: Who measures.
    """

    def __init__(self, editor: Editor, roster: Roster, pool: Executor, *, slots: int, observer: Observer) -> None:
        self._editor, self._roster, self._pool = editor, roster, pool
        self._slots, self._observer = slots, observer
        self._prediction = str(editor.manifest.scheduler.get("prediction_type", "epsilon"))

    def next_piece(self) -> Callable[[], None] | None:
        """Decode first: somebody waits for nothing else. Encode as the lane will need it. Previews when there is time."""
        roster = self._roster
        if roster.latents:
            denoised, finished = roster.latents.popleft()
            return lambda: self._decode(denoised, finished)
        task = roster.take_next_encoding(self._slots)
        if task is not None:
            return lambda: self._encode(task)
        if roster.previews:
            preview = roster.previews.popleft()
            return lambda: self._show(preview)
        return None

    def note_preview(self, task: Task, job: Job, step: int) -> None:
        """Keep what a wanted preview needs, right after a job's launch number `step` (from 0)."""
        ask = task.ticket.ask
        if ask.on_preview is None or ask.previews == 0:
            return
        looks = preview_steps(job.plan.steps, ask.previews)
        if step + 1 not in looks:
            return
        before, after, noise = self._editor.lane.last_launch(job)

        def decode() -> Bytes:
            return self._editor.decode(clean_estimate(job.plan, step, self._prediction, before, after, noise))

        self._roster.previews.append(Preview(task=task, job=job, number=looks.index(step + 1), decode=decode))

    def _encode(self, task: Task) -> None:
        start = time.perf_counter()
        try:
            task.subject = self._editor.encode(task.sight)
            jobs, task.frames = self._editor.make_jobs(task.subject, task.ticket.ask.requests, None)
        except Exception as fault:
            task.ticket.fail(as_known(fault))
            return
        self._observer.on_stage("encode", time.perf_counter() - start)
        task.images = {job: image for image, job in enumerate(jobs)}
        self._roster.ready += [(task, job) for job in jobs]

    def _decode(self, task: Task, finished: Finished) -> None:
        start = time.perf_counter()
        try:
            edited = self._editor.decode(finished.latent)
        except Exception as fault:
            task.ticket.fail(as_known(fault))
            return
        seconds = time.perf_counter() - start
        self._observer.on_stage("vae_decode", seconds)
        self._pool.submit(self._paste, task, finished, edited, seconds)

    def _paste(self, task: Task, finished: Finished, edited: Bytes, decode_s: float) -> None:
        ticket, subject, frame = task.ticket, task.subject, task.frames[finished.job]
        start = time.perf_counter()
        try:
            if subject is None or (why := ticket.why_dead()):
                raise why or EngineError("an image has no subject", "one", "report this")
            photo, alpha = self._editor.paste(subject, edited)
        except Exception as fault:
            ticket.fail(as_known(fault))
            return
        paste_s = time.perf_counter() - start
        self._observer.on_stage("compose", paste_s)
        timings = {
            "window": subject.timings["window"],
            "encode": subject.timings["encode"] + frame.encode_s,
            "steps": finished.seconds,
            "decode": decode_s,
            "paste": paste_s,
        }
        edit = Edit(photo=photo, alpha=alpha, seed=finished.job.plan.seed, timings=timings, warnings=frame.warnings)
        ticket.add(task.images[finished.job], edit)

    def _show(self, preview: Preview) -> None:
        try:
            edited = preview.decode()
        except Exception:  # a preview is a courtesy: its edit goes on
            _log.warning("a preview could not be decoded", exc_info=True)
            return
        self._pool.submit(self._send, preview, edited)

    def _send(self, preview: Preview, edited: Bytes) -> None:
        task, tell = preview.task, preview.task.ticket.ask.on_preview
        if task.ticket.is_over or task.subject is None or tell is None:
            return
        try:
            tell(task.images[preview.job], preview.number, self._editor.paste(task.subject, edited)[0])
        except Exception:
            _log.warning("a preview could not be sent", exc_info=True)


def as_known(fault: Exception) -> AlterbuteError:
    """Whatever a piece of work raised, as an error of this package; an unknown one is logged with its trace."""
    if isinstance(fault, AlterbuteError):
        return fault
    _log.error("a piece of work failed", exc_info=fault)
    return EngineError(f"the engine failed ({type(fault).__name__})", "a result", "see the server's log")
