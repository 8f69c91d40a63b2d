"""A photo ready to be edited: cropped (`PreparedPhoto`), then encoded (`Subject`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Unpack

from alterbute.encode.encoder import CroppedWindow, Scene
from alterbute.errors import InputError
from alterbute.images import MaskReport, Photo
from alterbute.request import CancelCheck, EditOptions, EditRequest, ProgressCallback
from alterbute.result import EditResult


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreparedPhoto:
    """A photo whose window is cropped but not encoded.

    Args:
        photo: The photo.
        windows: Its window, or one for each of several distant objects.
        is_aligned: Whether edits have the object where the photo has it: no box mask, and no reference of another object.
        report: What was understood of the mask; None for a region that was not read from one.
        seconds: Time of cropping and resizing, in seconds.
    """

    photo: Photo
    windows: tuple[CroppedWindow, ...]
    is_aligned: bool
    report: MaskReport | None
    seconds: float


class EditRunner(Protocol):
    """The methods of `Editor` that a subject calls; a protocol, because the editor imports this module."""

    def check_request(self, prompt: str | EditRequest, options: EditOptions) -> EditRequest:
        """Build a request from a prompt and options, and check it against the bundle."""
        ...

    def run_requests(
        self,
        subject: Subject,
        requests: Sequence[EditRequest],
        progress: ProgressCallback | None,
        cancel: CancelCheck | None,
    ) -> list[EditResult]:
        """Run checked requests on a subject; returns one result per image.

        Args:
            subject: The encoded photo.
            requests: Requests that `check_request` returned.
            progress: Called after every step of every image.
            cancel: Called before every step; True ends the call.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """An encoded photo and its object, from `Editor.prepare`. Its edits run only steps, decode and paste.

    Args:
        editor: The editor that runs the edits.
        photo: The photo.
        windows: Its window, or one for each of several distant objects.
        scenes: The encodings of each window that the UNet reads.
        is_aligned: Whether edits have the object where the photo has it: no box mask, and no reference of another object.
        report: What was understood of the mask; None for a region that was not read from one.
        timings: Seconds of the stages `window` and `encode`.
    """

    editor: EditRunner
    photo: Photo
    windows: tuple[CroppedWindow, ...]
    scenes: tuple[Scene, ...]
    is_aligned: bool
    report: MaskReport | None
    timings: dict[str, float]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Messages about the photo and the mask, for the user."""
        return self.photo.warnings + (() if self.report is None else self.report.warnings)

    def edit(
        self,
        prompt: str | EditRequest,
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelCheck | None = None,
        **options: Unpack[EditOptions],
    ) -> EditResult:
        """Edit the photo once.

        Args:
            prompt: The change, such as `color: red`; or a whole request, whose fields `options` override.
            progress: Called after every step.
            cancel: Called before every step; True ends the call.
            **options: Fields of `EditRequest`.

        Raises:
            InputError: this bundle cannot run the request.
            Cancelled: `cancel` returned True.
        """
        results = self.edit_many([prompt], progress=progress, cancel=cancel, **options)
        if len(results) > 1:
            raise InputError(
                f"count is {len(results)}",
                "1 for `edit`",
                "use `edit_many`, which returns a list",
                "count",
                "count_needs_edit_many",
            )
        return results[0]

    def edit_many(
        self,
        prompts: Sequence[str | EditRequest],
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelCheck | None = None,
        **options: Unpack[EditOptions],
    ) -> list[EditResult]:
        """Edit the photo several times, denoised together; each image gets the bytes that it would get alone.

        Args:
            prompts: One prompt or whole request per edit.
            progress: Called after every step of every image.
            cancel: Called before every step; True ends the call.
            **options: Fields of `EditRequest`, for all prompts.

        Returns:
            The results in the order of the prompts, the `count` images of a prompt one after another.

        Raises:
            InputError: this bundle cannot run a request; nothing was run.
            PartialEditError: some images failed and others were finished; it holds a result or an error for each image.
            EngineError: no image was finished; this is the first image's error.
            Cancelled: `cancel` returned True.
        """
        requests = [self.editor.check_request(prompt, options) for prompt in prompts]
        return self.editor.run_requests(self, requests, progress, cancel)
