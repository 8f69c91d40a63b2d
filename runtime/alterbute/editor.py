"""The public API: open a bundle, prepare a subject once, edit it many times.

Data flows in one direction: photo -> window -> encodings -> plan -> lane -> decode -> paste.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final, Unpack

from alterbute.backends import Array, Backend, BackendChoice, choose_backend, close_on_error, run_all_graphs
from alterbute.bundle import Bundle, Manifest, VariantPrecision, default_bundle_path, open_bundle, read_trust_keys
from alterbute.denoise.lane import Job, JobResult, Lane
from alterbute.denoise.plan import PlanCache
from alterbute.encode.encoder import Encoder, check_finite
from alterbute.encode.prompt import check_attributes, check_text
from alterbute.errors import EngineError
from alterbute.image_jobs import (
    ImageParts,
    JobInfo,
    JoinedImage,
    collect_results,
    draw_result,
    group_by_image,
    make_jobs,
)
from alterbute.images import Patch, Photo, Region, load_optional_reference, load_photo, load_region, make_patch
from alterbute.paste_window import paste_window
from alterbute.request import (
    CancelCheck,
    EditOptions,
    EditRequest,
    ProgressCallback,
    check_positive,
    check_resolution,
)
from alterbute.result import EditResult
from alterbute.subject import PreparedPhoto, Subject

if TYPE_CHECKING:
    from alterbute.images import MaskKind, MaskValue, PictureSource, Polarity
    from alterbute.images.photo import Bytes

DEFAULT_SLOTS: Final = 4


class Editor:
    """An open bundle that edits photos; create one with `Editor.open`. Calls from several threads run one after another.

    Args:
        bundle: An open bundle.
        backend: A name in `alterbute.backends.BACKENDS`, or an open backend, which the editor closes. "auto" selects the fastest
            one that can run this bundle on this machine; `choice` holds its name and why the others were skipped.
        slots: Maximum number of images denoised together; affects speed and memory, never the results.
        threads: CPU threads; None takes the most that keep an image's bytes independent of the other images in its launch.
        allow_unsigned: Load prebuilt engines, which are executable code, even if no trusted key signed the bundle.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        backend: str | Backend = "auto",
        slots: int = DEFAULT_SLOTS,
        threads: int | None = None,
        allow_unsigned: bool = False,
    ) -> None:
        check_positive("slots", slots)
        check_positive("threads", threads)
        self.bundle = bundle
        self.choice: BackendChoice | None = None
        if isinstance(backend, str):
            self.choice = choose_backend(backend, bundle, threads=threads, allow_unsigned=allow_unsigned)
            backend = self.choice.backend
        self._backend = backend
        self._encoder, self.plans = Encoder(bundle, self._backend), PlanCache(bundle.manifest)
        with close_on_error(self.choice):
            self.lane = Lane(self._backend, bundle.manifest, slots=slots)
        self._lock, self._paste_lock = Lock(), Lock()
        self._copier = ThreadPoolExecutor(1, "alterbute-copy")

    @classmethod
    def open(
        cls,
        bundle: Bundle | str | Path | None = None,
        *,
        backend: str | Backend = "auto",
        slots: int = DEFAULT_SLOTS,
        threads: int | None = None,
        trust_keys: Sequence[str | Path | bytes] | None = None,
        allow_unsigned: bool = False,
    ) -> Editor:
        """Open a bundle for editing. Engines load in the background, from verified bytes.

        Args:
            bundle: A bundle folder, or an open bundle; None takes the demo bundle.
            backend, slots, threads, allow_unsigned: The arguments of `Editor`.
            trust_keys: Ed25519 public keys (files, or 32 bytes each), one of which must have signed the bundle; None asks for
                no check. For an open bundle, whose signature was checked when it was opened, the keys themselves are checked only.

        Raises:
            BundleError: the bundle is missing, damaged, of a newer schema, or not signed by a trusted key.
            InputError: the backend is unknown, a number is out of range, or there is no key, or an invalid one.
            EngineError: the backend's library is not installed, or no engine of the bundle fits this machine.
        """
        trusted = None if trust_keys is None else read_trust_keys(trust_keys)
        if not isinstance(bundle, Bundle):
            bundle = open_bundle(default_bundle_path() if bundle is None else bundle, trust_keys=trusted)
        return cls(bundle, backend=backend, slots=slots, threads=threads, allow_unsigned=allow_unsigned)

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self.bundle.manifest

    @property
    def precision(self) -> VariantPrecision:
        """Precision in which the backend runs the step graph: `fp32`, `fp16`, `bf16` or `int8`."""
        return self._backend.precisions["step"]

    def warm_up(self) -> None:
        """Run every graph of a GPU at every shape that an edit can need, and capture the steps; nothing to do on a CPU."""
        with self._lock:
            run_all_graphs(self._backend, self.manifest)
            self.lane.warm_up()

    def prepare(
        self,
        photo: PictureSource,
        mask: PictureSource | Region | None,
        reference: PictureSource | None = None,
        *,
        reference_mask: PictureSource | None = None,
        mask_polarity: Polarity = "auto",
        mask_kind: MaskKind = "precise",
        mask_value: MaskValue | None = None,
        protect: PictureSource | None = None,
        dilate: int | None = None,
        rim: int = 0,
        resolution: int | None = None,
    ) -> Subject:
        """Crop the window of a photo and encode it, once for all its edits.

        Args:
            photo: Path, bytes, Pillow image, or HWC array of uint8 or uint16.
            mask: Mask of the object, at the photo's size, such as white on black; or a region that is loaded already; None takes the
                opaque part of a photo with transparency.
            reference: A picture whose object provides the identity; None takes the photo's own object.
            reference_mask: Mask of the reference's object; None takes the reference's opaque part, or all of it.
            mask_polarity: Which pixels of the masks mark the object.
            mask_kind: `precise`, `box` (the box around the object may change) or `soft` (grey levels are blend weights).
            mask_value: The label of the object, for a label image: a level or palette index, or a colour such as `#800000`.
            protect: Mask of occluders in front of the object: never changed, and excluded from the object.
            dilate: Side of the square dilation kernel of the model's mask in window pixels, odd; None takes the bundle's.
            rim: Photo pixels around the mask that may change, too; 0 keeps every pixel outside the mask.
            resolution: Side of the model's window in pixels, one of the bundle's; None chooses by the object's size.

        Raises:
            InputError: a picture cannot be used (see `alterbute.images`), or the bundle has no such resolution.
        """
        check_resolution(resolution, self.manifest.window_sides)
        loaded = load_photo(photo)
        region = (
            mask
            if isinstance(mask, Region)
            else load_region(
                mask,
                loaded,
                polarity=mask_polarity,
                kind=mask_kind,
                value=mask_value,
                protect=protect,
                dilate=dilate,
                rim=rim,
            )
        )
        loaded_reference = load_optional_reference(reference, reference_mask, mask_polarity)
        prepared = self.prepare_window(loaded, region, loaded_reference, resolution)
        with self._lock:
            return self.encode(prepared)

    def prepare_window(
        self, photo: Photo, region: Region, reference: tuple[Bytes, Bytes] | None = None, resolution: int | None = None
    ) -> PreparedPhoto:
        """Crop the windows of a photo; does not use the device, so it may run beside other work.

        Args:
            photo: The photo.
            region: The photo's masks.
            reference: Another picture (HWC uint8) and its object mask (HW uint8) for the identity; None takes the photo's object.
            resolution: Side of the model's window in pixels; None chooses by the object's size.
        """
        start = time.perf_counter()
        windows = self._encoder.crop_photo(photo, region, reference, resolution)
        return PreparedPhoto(
            photo=photo,
            windows=windows,
            is_aligned=reference is None and region.kind != "box",
            report=region.report,
            seconds=time.perf_counter() - start,
        )

    def encode(self, prepared: PreparedPhoto) -> Subject:
        """Encode a prepared photo; the caller ensures that the device runs nothing else meanwhile."""
        start = time.perf_counter()
        scenes = tuple(self._encoder.encode_window(window) for window in prepared.windows)
        return Subject(
            editor=self,
            photo=prepared.photo,
            windows=prepared.windows,
            scenes=scenes,
            is_aligned=prepared.is_aligned,
            report=prepared.report,
            timings={"window": prepared.seconds, "encode": time.perf_counter() - start},
        )

    def edit(
        self,
        photo: PictureSource,
        mask: PictureSource | Region | None,
        prompt: str | EditRequest,
        *,
        reference: PictureSource | None = None,
        reference_mask: PictureSource | None = None,
        mask_polarity: Polarity = "auto",
        mask_kind: MaskKind = "precise",
        mask_value: MaskValue | None = None,
        protect: PictureSource | None = None,
        dilate: int | None = None,
        rim: int = 0,
        resolution: int | None = None,
        progress: ProgressCallback | None = None,
        cancel: CancelCheck | None = None,
        **options: Unpack[EditOptions],
    ) -> EditResult:
        """Prepare a subject and edit it once.

        Args:
            photo: Path, bytes, Pillow image, or HWC array of uint8 or uint16, which is read in place: do not change it during the call.
            mask, reference, reference_mask, mask_polarity, mask_kind, mask_value, protect, dilate, rim, resolution: As for `prepare`.
            prompt: The change, such as `color: red`; or a whole request, whose fields `options` override.
            progress: Called after every step.
            cancel: Called before every step; True ends the call with `Cancelled`.
            **options: Fields of `EditRequest`.
        """
        # Checked first, so that no picture is encoded for an invalid request.
        request = self.check_request(prompt, options)
        subject = self.prepare(
            load_photo(photo, is_borrowed=True),
            mask,
            reference,
            reference_mask=reference_mask,
            mask_polarity=mask_polarity,
            mask_kind=mask_kind,
            mask_value=mask_value,
            protect=protect,
            dilate=dilate,
            rim=rim,
            resolution=resolution,
        )
        return subject.edit(request, progress=progress, cancel=cancel)

    def close(self) -> None:
        """Free the engines; the editor and its subjects cannot be used afterwards."""
        self._copier.shutdown(cancel_futures=True)
        self._backend.close()

    def __enter__(self) -> Editor:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def check_request(self, prompt: str | EditRequest, options: EditOptions) -> EditRequest:
        """Build a request from a prompt and options, and check that this bundle can run every part of it."""
        request = (
            replace(prompt, **options) if isinstance(prompt, EditRequest) else EditRequest(prompt=prompt, **options)
        )
        for text in (request.prompt, request.negative_prompt):
            check_text(text)
            self._encoder.tokenize(text)
        check_attributes(request.prompt, self.manifest.attributes)
        self.plans.get_plan(request, seed=0, image=0)
        return request

    def count_tokens(self, prompt: str) -> int:
        """Number of tokens of a prompt, without start and end tokens."""
        text = self.manifest.text
        ids = self._encoder.tokenize(prompt)[0, 1:]
        return int((ids == text.end_id).argmax()) if text.end_id in ids else len(ids)

    def run_requests(
        self,
        subject: Subject,
        requests: Sequence[EditRequest],
        progress: ProgressCallback | None,
        cancel: CancelCheck | None,
    ) -> list[EditResult]:
        """Denoise, decode and paste checked requests; callers use `Subject.edit_many`.

        Args:
            subject: The encoded photo.
            requests: Requests that `check_request` returned.
            progress: Called after every step of every image.
            cancel: Called before every step; True ends the call.

        Returns:
            One result per image, the `count` images of a request one after another.

        Raises:
            PartialEditError: some images failed and others were finished.
            EngineError: no image was finished; this is the first image's error.
            Cancelled: `cancel` returned True.
        """
        with self._lock:
            jobs = self.make_jobs(subject, requests, progress)
            images = group_by_image(subject, jobs)
            results: dict[int, EditResult] = {}
            faults: dict[int, EngineError] = {}
            # A large photo takes as long to copy as a small model takes to edit it, so it is copied while the model runs.
            copy = self._copier.submit(subject.photo.pixels.copy)
            try:
                for denoised in self.lane.run(list(jobs), cancel):
                    image = jobs[denoised.job].image
                    try:
                        joined = self._finish_window(subject, denoised, jobs[denoised.job], images[image])
                    except EngineError as fault:
                        faults.setdefault(image, fault)
                        continue
                    if joined is None:
                        continue
                    results[image] = draw_result(subject, joined, copy.result())
                    if len(results) + len(faults) < len(images):
                        copy = self._copier.submit(subject.photo.pixels.copy)
            except EngineError as fault:
                # A whole launch failed: its error is that of every image that was not finished before.
                faults |= {image: fault for image in range(len(images)) if image not in results and image not in faults}
        return collect_results(results, faults, len(images))

    def make_jobs(
        self, subject: Subject, requests: Sequence[EditRequest], progress: ProgressCallback | None
    ) -> dict[Job, JobInfo]:
        """Encode the prompts of requests and compile their plans.

        Args:
            subject: The encoded photo.
            requests: Requests that `check_request` returned.
            progress: Called after every step of every image.

        Returns:
            The jobs with what is known of each: for every image, in the order of the results, one job per window.
        """
        return make_jobs(self._encoder, self.plans, subject, requests, progress)

    def _finish_window(
        self, subject: Subject, denoised: JobResult, info: JobInfo, parts: ImageParts
    ) -> JoinedImage | None:
        """Decode a window's latent and paste it; returns the image with its last window, None before that.

        Raises:
            EngineError: the window's numbers stopped being finite in the lane or in the decoder, or a graph failed.
        """
        if denoised.fault is not None:
            raise denoised.fault
        start = time.perf_counter()
        edited, roundtrip = self.decode(denoised.latent), self.decode_roundtrip(subject, info)
        decoded = time.perf_counter()
        patch = self.make_patch(subject, info, edited, roundtrip)
        return parts.add(denoised, patch, decode_s=decoded - start, paste_s=time.perf_counter() - decoded)

    def decode(self, latent: Array) -> Bytes:
        """Decode a clean latent [C,h,w] to the window [S,S,3] uint8; the caller ensures that the device runs nothing else."""
        out = self._backend.run("decode", {"latent": latent[None]})
        check_finite("decode", "mean", out["mean"])
        edited: Bytes = out["image"][0]
        return edited

    def decode_roundtrip(self, subject: Subject, info: JobInfo) -> Bytes | None:
        """Decode the latent of a window's own photo to [S,S,3] uint8 if its paste needs it; the device runs nothing else meanwhile."""
        return None if info.rule.detail == "model" else self._encoder.decode_roundtrip(subject.scenes[info.window])

    def make_patch(self, subject: Subject, info: JobInfo, edited: Bytes, roundtrip: Bytes | None) -> Patch:
        """Blend an edited window into the photo's box, without the device; returns the changed part.

        Args:
            subject: The encoded photo.
            info: The window's job: which window it is, and how it is pasted.
            edited: [S,S,3] uint8, the decoded window.
            roundtrip: From `decode_roundtrip`.
        """
        window = subject.windows[info.window]
        with self._paste_lock:
            pasted = paste_window(self._backend.run, window, subject.photo.icc, info.rule, edited, roundtrip)
        return make_patch(subject.photo, window.box, pasted, window.images.alpha)
