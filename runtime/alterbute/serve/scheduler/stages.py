"""The stages before and after the lane: encode, decode and previews on the device, paste on another thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor

from alterbute.denoise.lane import Job, JobResult
from alterbute.editor import Editor
from alterbute.errors import AlterbuteError, EngineError
from alterbute.images.photo import Bytes
from alterbute.serve.scheduler.observer import Observer
from alterbute.serve.scheduler.preview import clean_estimate, preview_steps
from alterbute.serve.scheduler.queues import Preview, Queues, ScheduledRequest
from alterbute.serve.scheduler.server_request import ServerImage

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
            jobs, scheduled.job_infos = self._editor.make_jobs(scheduled.subject, scheduled.request.spec.requests, None)
        except Exception as fault:
            scheduled.request.fail(to_project_error(fault))
            return
        self._observer.on_stage("encode", time.perf_counter() - start)
        scheduled.images = {job: image for image, job in enumerate(jobs)}
        self._queues.ready += [(scheduled, job) for job in jobs]

    def _decode(self, scheduled: ScheduledRequest, result: JobResult) -> None:
        start = time.perf_counter()
        try:
            edited = self._editor.decode(result.latent)
        except Exception as fault:
            scheduled.request.fail(to_project_error(fault))
            return
        seconds = time.perf_counter() - start
        self._observer.on_stage("vae_decode", seconds)
        self._pool.submit(self._paste, scheduled, result, edited, seconds)

    def _paste(self, scheduled: ScheduledRequest, result: JobResult, edited: Bytes, decode_s: float) -> None:
        request, subject, info = scheduled.request, scheduled.subject, scheduled.job_infos[result.job]
        start = time.perf_counter()
        try:
            if subject is None or (error := request.failure_reason()):
                raise error or EngineError("an image has no subject", "one", "report this")
            photo, alpha = self._editor.paste(subject, edited)
        except Exception as fault:
            request.fail(to_project_error(fault))
            return
        paste_s = time.perf_counter() - start
        self._observer.on_stage("compose", paste_s)
        timings = {
            "window": subject.timings["window"],
            "encode": subject.timings["encode"] + info.encode_s,
            "steps": result.seconds,
            "decode": decode_s,
            "paste": paste_s,
        }
        edit = ServerImage(photo=photo, alpha=alpha, seed=result.job.plan.seed, timings=timings, warnings=info.warnings)
        request.add_image(scheduled.images[result.job], edit)

    def _decode_preview(self, preview: Preview) -> None:
        try:
            edited = preview.decode()
        except Exception:  # the edit goes on without this preview
            _logger.warning("a preview could not be decoded", exc_info=True)
            return
        self._pool.submit(self._send_preview, preview, edited)

    def _send_preview(self, preview: Preview, edited: Bytes) -> None:
        scheduled, on_preview = preview.scheduled, preview.scheduled.request.spec.on_preview
        if scheduled.request.is_over or scheduled.subject is None or on_preview is None:
            return
        try:
            on_preview(scheduled.images[preview.job], preview.number, self._editor.paste(scheduled.subject, edited)[0])
        except Exception:
            _logger.warning("a preview could not be sent", exc_info=True)


def to_project_error(fault: Exception) -> AlterbuteError:
    """Convert an exception to an error of this package; one from elsewhere is logged with its traceback."""
    if isinstance(fault, AlterbuteError):
        return fault
    _logger.error("a piece of work failed", exc_info=fault)
    return EngineError(f"the engine failed ({type(fault).__name__})", "a result", "see the server's log")
