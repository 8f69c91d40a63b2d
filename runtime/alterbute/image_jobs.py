"""The jobs of a call's images, one per window, and the joining of their pasted windows to edited photos."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock

from alterbute.denoise.job import Job, JobResult
from alterbute.denoise.plan import Plan, PlanCache
from alterbute.detail import PasteRule, choose_paste
from alterbute.encode.encoder import Encoder
from alterbute.encode.prompt import vocabulary_warning
from alterbute.errors import EngineError
from alterbute.images import Patch, join_patches
from alterbute.images.metadata import Provenance
from alterbute.images.photo import Pixels
from alterbute.origin import describe_origin
from alterbute.request import EditRequest, ProgressCallback, draw_seed, report_step
from alterbute.result import EditResult, PartialEditError
from alterbute.subject import Subject


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JobInfo:
    """What is known of a job besides its conditioning.

    Args:
        image: Index of its image within the call.
        window: Index of its window within the subject.
        rule: How its window is pasted.
        provenance: What its file will state.
        encode_s: Encoding time of the prompts in seconds.
        warnings: Messages for the user.
    """

    image: int
    window: int
    rule: PasteRule
    provenance: Provenance
    encode_s: float
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JoinedImage:
    """An edited image: what changes in the photo, and what its result reports.

    Args:
        patch: The pixels that may differ from the photo's.
        plan: The plan of its jobs.
        rule: How its windows were pasted.
        provenance: What its file will state.
        timings: Seconds by stage; see `EditResult`.
        warnings: Messages for the user.
    """

    patch: Patch
    plan: Plan
    rule: PasteRule
    provenance: Provenance
    timings: dict[str, float]
    warnings: tuple[str, ...]


class ImageParts:
    """The pasted windows of one image, joined when the last one is finished. Windows may be added from several threads.

    Args:
        subject: The encoded photo.
        jobs: The image's jobs, one per window.
    """

    def __init__(self, subject: Subject, jobs: Mapping[Job, JobInfo]) -> None:
        self._subject, self._jobs = subject, jobs
        self._patches: dict[int, Patch] = {}
        self._previews: dict[int, dict[int, Patch]] = {}
        self._next_preview = 0
        self._seconds = {"steps": 0.0, "decode": 0.0, "paste": 0.0}
        self._lock = Lock()

    def add(self, denoised: JobResult, patch: Patch, *, decode_s: float, paste_s: float) -> JoinedImage | None:
        """Add a pasted window.

        Args:
            denoised: The result of its job.
            patch: The pixels that it may change.
            decode_s: Seconds of decoding it.
            paste_s: Seconds of pasting it.

        Returns:
            The whole image with its last window; None before that.
        """
        info, seconds = self._jobs[denoised.job], self._seconds
        with self._lock:
            self._patches[info.window] = patch
            # Windows share the lane, so the longest time in it is the image's.
            seconds["steps"] = max(seconds["steps"], denoised.seconds)
            seconds["decode"], seconds["paste"] = seconds["decode"] + decode_s, seconds["paste"] + paste_s
            if len(self._patches) < len(self._jobs):
                return None
        start = time.perf_counter()
        subject = self._subject
        patch = join_patches(subject.photo, [self._patches[window] for window in range(len(self._jobs))])
        timings = {
            "window": subject.timings["window"],
            "encode": subject.timings["encode"] + info.encode_s,
            **seconds,
        }
        timings["paste"] += time.perf_counter() - start
        return JoinedImage(
            patch=patch,
            plan=denoised.job.plan,
            rule=info.rule,
            provenance=info.provenance,
            timings=timings,
            warnings=info.warnings,
        )

    def add_preview(self, number: int, window: int, patch: Patch) -> Patch | None:
        """Add a window's preview.

        Args:
            number: Number of the preview, from 0.
            window: Index of its window within the subject.
            patch: The pixels that it may change.

        Returns:
            The patch of all windows' previews of this number with the last one; None before that, and for a number that was returned
            before: an image whose launch failed runs again from its first step.
        """
        with self._lock:
            if number < self._next_preview:
                return None
            patches = self._previews.setdefault(number, {})
            patches[window] = patch
            if len(patches) < len(self._jobs):
                return None
            del self._previews[number]
            self._next_preview = number + 1
        return join_patches(self._subject.photo, [patches[index] for index in range(len(patches))])


def group_by_image(subject: Subject, jobs: Mapping[Job, JobInfo]) -> list[ImageParts]:
    """The parts of every image of a call, in the order of the results."""
    groups: dict[int, dict[Job, JobInfo]] = {}
    for job, info in jobs.items():
        groups.setdefault(info.image, {})[job] = info
    return [ImageParts(subject, groups[image]) for image in sorted(groups)]


def draw_result(subject: Subject, joined: JoinedImage, pixels: Pixels | None = None) -> EditResult:
    """Draw the result of a joined image.

    Args:
        subject: The encoded photo.
        joined: The image.
        pixels: A copy of the photo's pixels, which becomes the result's; None copies them.
    """
    start = time.perf_counter()
    photo, alpha = joined.patch.put_into(subject.photo, pixels), joined.patch.spread_alpha(subject.photo)
    timings = joined.timings | {"paste": joined.timings["paste"] + time.perf_counter() - start}
    return EditResult(
        photo=photo,
        alpha=alpha,
        seed=joined.plan.seed,
        index=joined.plan.image,
        detail=joined.rule.detail,
        detail_threshold=joined.rule.threshold,
        provenance=joined.provenance,
        timings=timings,
        warnings=(*subject.warnings, *joined.warnings),
    )


def collect_results(
    results: Mapping[int, EditResult], faults: Mapping[int, EngineError], images: int
) -> list[EditResult]:
    """The results of a call in order, if every image was finished.

    Args:
        results: Finished images by index.
        faults: Errors of the others.
        images: Number of images.

    Raises:
        PartialEditError: some images failed and others were finished.
        EngineError: no image was finished; this is the first image's error.
    """
    if not faults:
        return [results[image] for image in range(images)]
    if not results:
        raise faults[min(faults)]
    indices = range(images)
    raise PartialEditError([results.get(image) for image in indices], [faults.get(image) for image in indices])


def make_jobs(
    encoder: Encoder,
    plans: PlanCache,
    subject: Subject,
    requests: Sequence[EditRequest],
    progress: ProgressCallback | None,
) -> dict[Job, JobInfo]:
    """Encode the prompts of requests and compile their plans.

    Args:
        encoder: The encoder of the subject's bundle.
        plans: Compiled plans of the bundle.
        subject: The encoded photo.
        requests: Requests that were checked against the bundle.
        progress: Called after every step of every image.

    Returns:
        The jobs with what is known of each: for every image, in the order of the results, one job per window.
    """
    images = sum(request.count for request in requests)
    jobs: dict[Job, JobInfo] = {}
    first_image = 0
    for request in requests:
        start = time.perf_counter()
        rule = choose_paste(
            request.detail,
            request.prompt,
            rules=encoder.manifest.detail,
            attributes=encoder.manifest.attributes,
            is_aligned=subject.is_aligned,
            bits=subject.photo.bits,
        )
        conditionings = [
            encoder.make_conditioning(scene, request.prompt, request.negative_prompt) for scene in subject.scenes
        ]
        seconds = time.perf_counter() - start
        seed = draw_seed() if request.seed is None else int(request.seed)
        warning = vocabulary_warning(request.prompt, encoder.manifest.attributes)
        first_plan = plans.get_plan(request, seed=seed, image=0)
        for index in range(request.count):
            image = first_image + index
            total_steps = first_plan.steps * len(subject.windows)
            report = partial(report_step, progress, image, images, total_steps) if progress else None
            on_step = _sum_steps(report) if report else None
            provenance = describe_origin(encoder.bundle, request, seed=seed, index=index)
            for window, conditioning in enumerate(conditionings):
                # Each object gets the noise that it would get alone.
                job = Job(plan=replace(first_plan, image=index), conditioning=conditioning, on_step=on_step)
                jobs[job] = JobInfo(
                    image=image,
                    window=window,
                    rule=rule,
                    provenance=provenance,
                    encode_s=seconds,
                    warnings=(warning,) if warning else (),
                )
        first_image += request.count
    return jobs


def _sum_steps(report: Callable[[int], None]) -> Callable[[int], None]:
    """A callback for the jobs of one image that reports how many steps all of them have finished."""
    finished = 0

    def on_step(_: int) -> None:
        nonlocal finished
        finished += 1
        report(finished)

    return on_step
