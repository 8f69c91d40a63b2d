"""Validation of a request: its form is checked against the bundle and the limits, cheapest checks first."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from alterbute.denoise.plan import Plan
from alterbute.errors import OverloadedError
from alterbute.images import Photo, choose_resolution, count_windows, photo_box
from alterbute.request import MAX_SEED, EditRequest, draw_seed
from alterbute.serve.http.error_response import ApiError, bad_request
from alterbute.serve.openai.fields import EditForm, check_model
from alterbute.serve.openai.images import Pictures, check_sizes, decode_pictures, read_sizes
from alterbute.serve.scheduler.server_request import RequestSpec, ServerRequest

if TYPE_CHECKING:
    from alterbute.bundle import Manifest
    from alterbute.serve.context import Context
    from alterbute.serve.decoding.decoder_process import DecoderProcess
    from alterbute.serve.decoding.job_limits import PictureSize
    from alterbute.serve.http.limits import Reservation
    from alterbute.serve.settings import ServerSettings

_DECODING_STEPS: Final = 0.5
"""Price of decoding a megapixel, in megapixel-steps: a photo and its mask cost as much as a step."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CheckedRequest:
    """A request that passed all checks, so that the server can run it.

    Args:
        form: Its fields.
        pictures: Its decoded pictures.
        requests: One request per image, each with its seed.
        plan: Plan of the first image; the others differ in their noise only.
        text_tokens: Tokens of the prompt.
        deadline_s: Deadline in `time.monotonic` seconds.
        decode_s: Seconds of decoding.
        window_side: Side of the square window around the object, in pixels of the model: one of the bundle's resolutions.
        windows: Number of windows: one, or one for each of several distant objects.
        key: Name of the API key whose rate was charged.
        unused_price: What of that price is returned if the request is not run: all but the price of decoding.
    """

    form: EditForm
    pictures: Pictures
    requests: tuple[EditRequest, ...]
    plan: Plan
    text_tokens: int
    deadline_s: float
    decode_s: float
    window_side: int
    windows: int
    key: str
    unused_price: float

    @property
    def rows(self) -> int:
        """UNet rows of all images and windows over all steps."""
        return self.windows * len(self.requests) * sum(len(rows) for rows in self.plan.rows)

    def spec(self, on_preview: Callable[[int, int, Photo], None] | None = None) -> RequestSpec:
        """Make the specification to submit to the service.

        `on_preview` is called with (image, number, photo) for each preview, from any thread.
        """
        digest = hashlib.sha256(self.pictures.photo.pixels.data)
        digest.update(self.pictures.region.edit.data)
        digest.update(repr([replace(request, seed=None) for request in self.requests]).encode("utf-8", "replace"))
        return RequestSpec(
            photo=self.pictures.photo,
            region=self.pictures.region,
            reference=self.pictures.reference,
            requests=self.requests,
            rows=self.rows,
            windows=self.windows,
            steps=self.plan.steps,
            deadline_s=self.deadline_s,
            previews=self.form.partial_images,
            on_preview=on_preview,
            fingerprint=digest.digest(),
        )


async def check_request(
    context: Context, form: EditForm, memory: Reservation, *, key: str, arrived_s: float
) -> CheckedRequest:
    """Check a form, and decode its pictures.

    Its price is taken from the key's rate before anything is decoded, so that refused pictures are paid, too.

    Args:
        context: The server's parts.
        form: The request's fields and files.
        memory: The request's reservation, which grows by its pictures; its owner is the client, of whom one cannot take all decoders.
        key: Name of the API key whose rate limit is charged.
        arrived_s: Time of its arrival in `time.monotonic` seconds.

    Raises:
        ApiError, InputError, OverloadedError: the request cannot be run.
    """
    check_model(form.model, context.model)
    deadline_s = arrived_s + min(form.timeout_s or context.settings.timeout_s, context.settings.timeout_s)
    requests, plan, text_tokens = await context.run_on_pool(lambda: _make_requests(context, form))
    sizes = await context.run_on_pool(lambda: read_sizes(form.files))
    check_sizes(sizes, context.settings.max_megapixels, memory)
    decoding = _DECODING_STEPS * sum(size.pixels for size in sizes.values()) / 1e6
    price = _check_work(context, form, sizes["image"].pixels, plan.steps)
    paid = decoding if form.is_dry_run else max(price, decoding)
    context.rate.take(key, paid)
    start = time.perf_counter()
    pictures, window_side, windows = await context.decoders.run(
        lambda decoder: _decode(form, sizes, decoder, context.service.editor.manifest),
        owner=memory.owner,
        deadline_s=deadline_s,
    )
    decode_s = time.perf_counter() - start
    context.metrics.on_stage("decode", decode_s)
    _check_photo(form, pictures.photo)
    pixels = max(pictures.photo.width * pictures.photo.height, windows * window_side**2)
    price = _check_work(context, form, pixels, plan.steps)
    if not form.is_dry_run and price > paid:
        try:
            context.rate.take(key, price - paid)
        except OverloadedError:
            context.rate.give_back(key, paid - decoding)
            raise
        paid = price
    return CheckedRequest(
        form=form,
        pictures=pictures,
        requests=requests,
        plan=plan,
        text_tokens=text_tokens,
        deadline_s=deadline_s,
        decode_s=decode_s,
        window_side=window_side,
        windows=windows,
        key=key,
        unused_price=paid - decoding,
    )


def submit_request(context: Context, checked: CheckedRequest, spec: RequestSpec) -> ServerRequest:
    """Submit a checked request to the service; one that is refused gets its price back, but for that of decoding.

    Args:
        context: The server's parts.
        checked: The request.
        spec: Its specification.

    Raises:
        OverloadedError: there is no room, or its deadline cannot be met.
        InputError: the same content failed a launch before.
    """
    try:
        return context.service.submit(spec)
    except OverloadedError:
        context.rate.give_back(checked.key, checked.unused_price)
        raise


def _decode(
    form: EditForm, sizes: Mapping[str, PictureSize], decoder: DecoderProcess, manifest: Manifest
) -> tuple[Pictures, int, int]:
    pictures = decode_pictures(
        form.files,
        sizes,
        decoder,
        polarity=form.mask_polarity,
        kind=form.mask_kind,
        value=form.mask_value,
        dilate=form.dilate,
        rim=form.rim,
    )
    box = photo_box(pictures.region.edit, manifest.mask.margin, form.rim)
    windows = count_windows(pictures.region, manifest.mask.margin, manifest.window_sides)
    return pictures, choose_resolution(box, manifest.window_sides), windows


def _make_requests(context: Context, form: EditForm) -> tuple[tuple[EditRequest, ...], Plan, int]:
    settings, editor = context.settings, context.service.editor
    _check_counts(form, settings)
    options = dict(form.options)
    seed = options.pop("seed", None)
    if seed is None:
        seed = draw_seed()
    prompt = _with_attribute(form, editor.manifest.attributes)
    first = editor.check_request(EditRequest(prompt=prompt, seed=seed, **options), {})
    # Image i has the bytes of a request for one image with seed + i.
    requests = tuple(replace(first, seed=(seed + image) % (MAX_SEED + 1)) for image in range(form.count))
    plan = editor.plans.get_plan(first, seed=seed, image=0)
    if plan.steps > settings.max_steps:
        raise bad_request(
            f"num_inference_steps is not within 1..{settings.max_steps}", "num_inference_steps", "steps_out_of_range"
        )
    return requests, plan, editor.count_tokens(prompt)


def _check_counts(form: EditForm, settings: ServerSettings) -> None:
    if not 1 <= form.count <= settings.max_count:
        raise bad_request(f"n is not within 1..{settings.max_count}", "n", "n_out_of_range")
    steps = form.options.get("steps")
    if steps is not None and not 1 <= steps <= settings.max_steps:
        raise bad_request(
            f"num_inference_steps is not within 1..{settings.max_steps}", "num_inference_steps", "steps_out_of_range"
        )


def _with_attribute(form: EditForm, attributes: object) -> str:
    """The prompt with its attribute in front: attribute `color` and prompt `red` give "color: red"."""
    if form.attribute is None:
        return form.prompt
    if isinstance(attributes, dict) and form.attribute not in attributes:
        raise bad_request(f"attribute is none of {', '.join(attributes)}", "attribute")
    return f"{form.attribute}: {form.prompt}"


def _check_photo(form: EditForm, photo: Photo) -> None:
    """Check fields that depend on the photo's size and transparency."""
    own_size = f"{photo.width}x{photo.height}"
    if form.size not in ("auto", own_size):
        raise bad_request(
            f"size is neither auto nor {own_size}, the image's own: the background is kept bit for bit",
            "size",
            "size_unsupported",
        )
    if form.background == "transparent" and photo.alpha is None:
        raise bad_request("the image has no transparency to keep", "background")
    if form.output_format != "png" and photo.bits > 8:
        raise bad_request(f"the image has {photo.bits} bits per channel, which only png can hold", "output_format")
    if form.output_format == "jpeg" and photo.alpha is not None:
        raise bad_request("JPEG cannot hold the image's transparency", "output_format")


def _check_work(context: Context, form: EditForm, pixels: int, steps: int) -> float:
    """The work of an edit of so many pixels, in megapixel-steps.

    Raises:
        ApiError: it is more than a request may be.
    """
    work, limit = pixels / 1e6 * steps * form.count, context.settings.max_megapixel_steps
    if work > limit:
        raise ApiError(
            400,
            f"the request is {work:.0f} megapixel-steps; expected at most {limit:g}; take fewer steps, fewer images or a smaller image",
            "too_much_work",
            "num_inference_steps",
            reason="too_large",
        )
    return work
