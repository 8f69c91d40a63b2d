"""Waiting for an edit, and the parts that are the same in its response and in its stream of events."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from alterbute.serve.http.limits import Reservation
from alterbute.serve.http.request_body import ClientGone
from alterbute.serve.openai.encode_image import is_lossless, timings_ms
from alterbute.serve.openai.fields import QUALITY_STEPS
from alterbute.serve.openai.validate_request import CheckedRequest
from alterbute.serve.scheduler.server_request import ServerRequest, ServerResult

if TYPE_CHECKING:
    from starlette.requests import Request

    from alterbute.serve.context import Context

Json = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AcceptedRequest:
    """A checked request of a server, and the memory that is reserved for it until its response is sent."""

    context: Context
    checked: CheckedRequest
    memory: Reservation


async def wait_for_result(request: Request, server_request: ServerRequest) -> ServerResult:
    """Wait for the result of a request; cancel it when the client closes the connection.

    Raises:
        ClientGone: the client closed the connection.
        AlterbuteError: the edit failed.
    """
    outcome = watch_outcome(server_request)
    disconnect = asyncio.ensure_future(wait_for_disconnect(request))
    try:
        both: set[asyncio.Future[Any]] = {outcome, disconnect}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if outcome.done():
            return outcome.result()
        raise ClientGone
    finally:
        disconnect.cancel()
        if not outcome.done():
            server_request.cancel()


async def run_while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, which is cancelled when the client closes the connection.

    Raises:
        ClientGone: the client closed the connection.
        Exception: what the coroutine raises.
    """
    task = asyncio.ensure_future(work)
    disconnect = asyncio.ensure_future(wait_for_disconnect(request))
    try:
        await asyncio.wait({task, disconnect}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        disconnect.cancel()
        task.cancel()


def watch_outcome(server_request: ServerRequest) -> asyncio.Future[ServerResult]:
    """A request's future in this event loop. Do not cancel it: the request would end while its worker still uses it."""
    outcome = asyncio.wrap_future(server_request.future)
    # Reads the exception when nothing waits any more, because asyncio warns of exceptions that are never retrieved.
    outcome.add_done_callback(lambda done: done.cancelled() or done.exception())
    return outcome


async def wait_for_disconnect(request: Request) -> None:
    """Return when the client has closed the connection; the request's body must have been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def make_timing_headers(result: ServerResult) -> dict[str, str]:
    """Headers with the milliseconds of waiting and of computing."""
    return {
        "x-alterbute-queue-ms": f"{result.queue_s * 1000:.1f}",
        "x-alterbute-compute-ms": f"{result.compute_s * 1000:.1f}",
    }


def describe_output(checked: CheckedRequest) -> Json:
    """The keys that every response and event has: background, format, quality and size."""
    photo, form = checked.pictures.photo, checked.form
    return {
        "background": "transparent" if photo.alpha is not None and form.background == "transparent" else "opaque",
        "output_format": form.output_format,
        "quality": _quality(checked),
        "size": f"{photo.width}x{photo.height}",
    }


def count_tokens_used(context: Context, checked: CheckedRequest) -> Json:
    """Token counts in OpenAI's form: the prompt's tokens, and latent positions for pictures."""
    manifest = context.service.editor.manifest
    positions = checked.windows * (checked.window_side // manifest.latent_factor) ** 2
    image_tokens = positions * (1 if checked.pictures.reference is None else 2)
    output_tokens = positions * len(checked.requests)
    input_tokens = image_tokens + checked.text_tokens
    return {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
        "input_tokens_details": {"image_tokens": image_tokens, "text_tokens": checked.text_tokens},
    }


def describe_edit(context: Context, checked: CheckedRequest, result: ServerResult | None) -> Json:
    """The value of a response's key `alterbute`: seeds, bundle, mask, timings and what else OpenAI's form has no key for.

    Args:
        context: The server's parts.
        checked: The checked request.
        result: Its result; None for a dry run.
    """
    form, pictures = checked.form, checked.pictures
    described: Json = {
        "seed": checked.requests[0].seed,
        "seeds": [request.seed for request in checked.requests],
        "steps": checked.plan.steps,
        "bundle_id": context.model,
        "bundle_sha256": context.bundle_sha256,
        "precision": context.precision,
        "background_exact": is_lossless(form.output_format, form.output_compression),
        "mask_mode": pictures.mask_mode,
        "mask_pixels": pictures.mask_pixels,
        "mask": pictures.region.report.describe() if pictures.region.report else None,
    }
    if result is not None:
        described["timings_ms"] = [
            {"picture_decode": round(checked.decode_s * 1000, 3), **timings_ms(edit)} for edit in result.edits
        ]
        described["detail"] = [
            {"from": edit.detail, "threshold": None if edit.detail == "model" else edit.detail_threshold}
            for edit in result.edits
        ]
        described["warnings"] = list(dict.fromkeys(line for edit in result.edits for line in edit.warnings))
    return described


def _quality(checked: CheckedRequest) -> str:
    """The quality preset of the request, or the one with the nearest number of steps."""
    if checked.form.quality != "auto" and QUALITY_STEPS[checked.form.quality] == checked.plan.steps:
        return checked.form.quality
    presets = {name: steps for name, steps in QUALITY_STEPS.items() if steps is not None}
    return min(presets, key=lambda name: abs(presets[name] - checked.plan.steps))
