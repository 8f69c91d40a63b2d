"""The stages before and after the lane: encode, decode and previews on the device, paste on another thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor

from alterbute.denoise.lane import Job, JobResult
from alterbute.editor import Editor
from alterbute.errors import AlterbuteError, EngineError
from alterbute.image_jobs import draw_result, group_by_image
from alterbute.images.photo import Bytes
from alterbute.serve.scheduler.observer import Observer
from alterbute.serve.scheduler.preview import clean_estimate, preview_steps
from alterbute.serve.scheduler.queues import Preview, Queues, ScheduledRequest

_logger = logging.getLogger(__name__)


class Stages:
    """The work that a worker does between two launches.

    Args:
        editor: The worker's editor.
        queues: The worker's queues.
        pool: Threads for work that needs no device.
        slots: Images in the lane at most; as many are encoded ahead.
        observer: Receives measurements.
    """

    def __init__(self, editor: Editor, queues: Queues, pool: Executor, *, slots: int, observer: Observer) -> None:
        self._editor, self._queues, self._pool = editor, queues, pool
        self._slots, self._observer = slots, observer
        self._prediction = str(editor.manifest.scheduler.get("prediction_type", "epsilon"))

    def next_work(self) -> Callable[[], None] | None:
        """The next piece of work, None when there is none: decoding first, which completes a request; then encoding; then previews."""
        queues = self._queues
        if queues.latents:
            denoised, result = queues.latents.popleft()
            return lambda: self._decode(denoised, result)
        scheduled = queues.pop_encoding(self._slots)
        if scheduled is not None:
            return lambda: self._encode(scheduled)
        if queues.previews:
            preview = queues.previews.popleft()
            return lambda: self._decode_preview(preview)
        return None

    def queue_preview(self, scheduled: ScheduledRequest, job: Job, step: int) -> None:
        """Queue a preview of a job if its request has one after this step; called right after the launch.

        Args:
            scheduled: The job's request.
            job: The job.
            step: Index of its launch, from 0.
        """
        spec = scheduled.request.spec
        if spec.on_preview is None or spec.previews == 0:
            return
        steps = preview_steps(job.plan.steps, spec.previews)
        if step + 1 not in steps:
            return
        before, after, noise = self._editor.lane.last_states(job)

        def decode() -> Bytes:
            return self._editor.decode(clean_estimate(job.plan, step, self._prediction, before, after, noise))

        self._queues.previews.append(Preview(scheduled=scheduled, job=job, number=steps.index(step + 1), decode=decode))

    def _encode(self, scheduled: ScheduledRequest) -> None:
        start = time.perf_counter()
        try:
            scheduled.subject = self._editor.encode(scheduled.prepared)
            scheduled.jobs = self._editor.make_jobs(scheduled.subject, scheduled.request.spec.requests, None)
        except Exception as fault:
            scheduled.request.fail(to_project_error(fault))
            return
        self._observer.on_stage("encode", time.perf_counter() - start)
        scheduled.images = group_by_image(scheduled.subject, scheduled.jobs)
        self._queues.ready += [(scheduled, job) for job in scheduled.jobs]

    def _decode(self, scheduled: ScheduledRequest, result: JobResult) -> None:
        start = time.perf_counter()
        try:
            if self._decode_roundtrip(scheduled, result.job):
                self._queues.latents.appendleft((scheduled, result))
                return
            edited = self._editor.decode(result.latent)
        except Exception as fault:
            scheduled.request.fail(to_project_error(fault))
            return
        seconds = time.perf_counter() - start
        self._observer.on_stage("vae_decode", seconds)
        self._pool.submit(self._paste, scheduled, result, edited, seconds)

    def _decode_roundtrip(self, scheduled: ScheduledRequest, job: Job) -> bool:
        """Decode the round trip of a job's window, unless that was done before; returns whether it was a piece of work."""
        info = scheduled.jobs[job]
        if info.window in scheduled.roundtrips or scheduled.subject is None:
            return False
        start = time.perf_counter()
        scheduled.roundtrips[info.window] = self._editor.decode_roundtrip(scheduled.subject, info)
        if scheduled.roundtrips[info.window] is None:
            return False
        self._observer.on_stage("vae_decode", time.perf_counter() - start)
        return True

    def _paste(self, scheduled: ScheduledRequest, result: JobResult, edited: Bytes, decode_s: float) -> None:
        request, subject, info = scheduled.request, scheduled.subject, scheduled.jobs[result.job]
        start = time.perf_counter()
        try:
            if subject is None or (error := request.failure_reason()):
                raise error or EngineError("an image has no subject", "one", "report this")
            patch = self._editor.make_patch(subject, info, edited, scheduled.roundtrips.get(info.window))
            seconds = time.perf_counter() - start
            joined = scheduled.images[info.image].add(result, patch, decode_s=decode_s, paste_s=seconds)
            if joined is None:
                return
            edit = draw_result(subject, joined)
        except Exception as fault:
            request.fail(to_project_error(fault))
            return
        self._observer.on_stage("compose", edit.timings["paste"])
        request.add_image(info.image, edit)

    def _decode_preview(self, preview: Preview) -> None:
        try:
            if self._decode_roundtrip(preview.scheduled, preview.job):
                self._queues.previews.appendleft(preview)
                return
            edited = preview.decode()
        except Exception:  # the edit goes on without this preview
            _logger.warning("a preview could not be decoded", exc_info=True)
            return
        preview.scheduled.decoded_previews.append((preview, edited))
        self._pool.submit(self._send_next_preview, preview.scheduled)

    def _send_next_preview(self, scheduled: ScheduledRequest) -> None:
        """Paste and send a request's oldest decoded preview: threads of the pool may start in any order."""
        with scheduled.preview_lock:
            self._send_preview(scheduled, *scheduled.decoded_previews.popleft())

    def _send_preview(self, scheduled: ScheduledRequest, preview: Preview, edited: Bytes) -> None:
        on_preview = scheduled.request.spec.on_preview
        if scheduled.request.is_over or scheduled.subject is None or on_preview is None:
            return
        info = scheduled.jobs[preview.job]
        try:
            patch = self._editor.make_patch(scheduled.subject, info, edited, scheduled.roundtrips.get(info.window))
            joined = scheduled.images[info.image].add_preview(preview.number, info.window, patch)
            if joined is not None:
                on_preview(info.image, preview.number, joined.put_into(scheduled.subject.photo))
        except Exception:
            _logger.warning("a preview could not be sent", exc_info=True)


def to_project_error(fault: Exception) -> AlterbuteError:
    """Convert an exception to an error of this package; one from elsewhere is logged with its traceback."""
    if isinstance(fault, AlterbuteError):
        return fault
    _logger.error("a piece of work failed", exc_info=fault)
    return EngineError(f"the engine failed ({type(fault).__name__})", "a result", "see the server's log")
