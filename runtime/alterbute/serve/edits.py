"""`POST /v1/images/edits`: OpenAI's contract, answered at once or as a stream of events."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from alterbute.serve import intake, render
from alterbute.serve.body import ClientGone, read_body, split_body
from alterbute.serve.form import QUALITY_STEPS, read_form
from alterbute.serve.intake import Checked
from alterbute.serve.limits import Reservation
from alterbute.serve.ticket import Served, Ticket

if TYPE_CHECKING:
    from starlette.requests import Request

    from alterbute.serve.context import Context

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Accepted:
    """A checked request on its way, and the memory that it holds until its response is out."""

    context: Context
    checked: Checked
    memory: Reservation


async def edit_images(request: Request) -> Response:
    """Edit an image; see the OpenAPI document for its fields."""
    from alterbute.serve.stream import EditStream

    context: Context = request.app.state.context
    context.service.check_room()
    memory = context.memory.open()
    keep = False
    try:
        accepted = await _accept(request, context, memory)
        if accepted.checked.form.is_dry_run:
            return _dry_run(accepted)
        if accepted.checked.form.is_stream:
            stream = await EditStream.open(request, accepted)
            keep = True
            return stream
        ask = await context.on_pool(accepted.checked.ask)
        ticket = context.service.submit(ask)
        served = await wait_for_ticket(request, ticket)
        body = await context.on_pool(lambda: _reply(accepted, served))
        return Response(body, media_type="application/json", headers=headers_of(served))
    finally:
        if not keep:
            memory.release()


async def _accept(request: Request, context: Context, memory: Reservation) -> Accepted:
    arrived_s = time.monotonic()
    data = await read_body(request, context.settings, memory)
    content_type = request.headers.get("content-type", "")
    form = await context.on_pool(lambda: read_form(split_body(data, content_type, context.settings)))
    checked = await intake.check(context, form, memory, key=request.state.key, arrived_s=arrived_s)
    return Accepted(context=context, checked=checked, memory=memory)


async def wait_for_ticket(request: Request, ticket: Ticket) -> Served:
    """A ticket's outcome; a client that leaves cancels it.

    Raises:
        ClientGone: it left.
        AlterbuteError: the edit failed.
    """
    outcome = outcome_of(ticket)
    gone = asyncio.ensure_future(until_gone(request))
    try:
        both: set[asyncio.Future[Any]] = {outcome, gone}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if outcome.done():
            return outcome.result()
        raise ClientGone
    finally:
        gone.cancel()
        if not outcome.done():
            ticket.cancel()


def outcome_of(ticket: Ticket) -> asyncio.Future[Served]:
    """A ticket's future for this loop. Never cancel it: that would end the ticket before its device has let go of it."""
    outcome = asyncio.wrap_future(ticket.future)
    # Whoever stopped waiting does not ask any more, and asyncio would complain that nobody did.
    outcome.add_done_callback(lambda done: done.cancelled() or done.exception())
    return outcome


async def until_gone(request: Request) -> None:
    """Return when the client has left; its body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def headers_of(served: Served) -> dict[str, str]:
    """Where the time went."""
    return {
        "x-alterbute-queue-ms": f"{served.queue_s * 1000:.1f}",
        "x-alterbute-compute-ms": f"{served.compute_s * 1000:.1f}",
    }


def describe_output(checked: Checked) -> Json:
    """The keys that every reply and event has."""
    photo, form = checked.pictures.photo, checked.form
    return {
        "background": "transparent" if photo.alpha is not None and form.background == "transparent" else "opaque",
        "output_format": form.output_format,
        "quality": _quality(checked),
        "size": f"{photo.width}x{photo.height}",
    }


def usage(context: Context, checked: Checked) -> Json:
    """Tokens as this runtime has them: the prompt's, and latent positions."""
    manifest = context.service.editor.manifest
    positions = (manifest.resolution // manifest.latent_factor) ** 2
    image_tokens = positions * (1 if checked.pictures.reference is None else 2)
    output_tokens = positions * len(checked.requests)
    input_tokens = image_tokens + checked.text_tokens
    return {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
        "input_tokens_details": {"image_tokens": image_tokens, "text_tokens": checked.text_tokens},
    }


def describe_edit(context: Context, checked: Checked, served: Served | None) -> Json:
    """What OpenAI's reply has no key for."""
    form, pictures = checked.form, checked.pictures
    described: Json = {
        "seed": checked.requests[0].seed,
        "seeds": [request.seed for request in checked.requests],
        "steps": checked.plan.steps,
        "bundle_id": context.model,
        "bundle_sha256": context.bundle_sha256,
        "precision": context.precision,
        "background_exact": render.is_lossless(form.output_format, form.output_compression),
        "mask_mode": pictures.mask_mode,
        "mask_pixels": pictures.mask_pixels,
    }
    if served is not None:
        described["timings_ms"] = [
            {"picture_decode": round(checked.decode_s * 1000, 3), **render.timings_ms(edit)} for edit in served.edits
        ]
        described["warnings"] = list(dict.fromkeys(line for edit in served.edits for line in edit.warnings))
    return described


def _reply(accepted: Accepted, served: Served) -> bytes:
    context, checked = accepted.context, accepted.checked
    form = checked.form
    data = []
    for edit in served.edits:
        file, seconds = render.timed(edit.photo, form.output_format, form.output_compression)
        context.metrics.on_stage("encode_image", seconds)
        data.append({"b64_json": render.as_text(file)})
    return render.as_json(
        {
            "created": int(time.time()),
            "data": data,
            **describe_output(checked),
            "usage": usage(context, checked),
            "alterbute": describe_edit(context, checked, served),
        }
    )


def _dry_run(accepted: Accepted) -> Response:
    """Everything was checked; nothing is run."""
    context, checked = accepted.context, accepted.checked
    settings, ask = context.settings, checked.ask()
    body = {
        "object": "image_edit.dry_run",
        **describe_output(checked),
        "usage": usage(context, checked),
        "alterbute": {
            **describe_edit(context, checked, None),
            "rows": checked.rows,
            "estimate_ms": round(context.service.estimate_s(ask) * 1000, 1),
            "limits": {
                "n": settings.max_count,
                "num_inference_steps": settings.max_steps,
                "megapixel_steps": settings.max_megapixel_steps,
                "megapixels": settings.max_megapixels,
                "file_bytes": int(settings.max_file_mb * 2**20),
                "request_bytes": int(settings.max_request_mb * 2**20),
                "timeout_s": settings.timeout_s,
            },
        },
    }
    return Response(render.as_json(body), media_type="application/json")


def _quality(checked: Checked) -> str:
    """The preset that was asked for, or the one whose steps come nearest."""
    if checked.form.quality != "auto" and QUALITY_STEPS[checked.form.quality] == checked.plan.steps:
        return checked.form.quality
    presets = {name: steps for name, steps in QUALITY_STEPS.items() if steps is not None}
    return min(presets, key=lambda name: abs(presets[name] - checked.plan.steps))
