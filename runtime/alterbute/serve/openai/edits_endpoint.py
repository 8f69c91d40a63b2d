"""`POST /v1/images/edits` in OpenAI's form: one response, or a stream of events."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starlette.responses import Response

from alterbute.serve.http.connections import client_name
from alterbute.serve.http.limits import Reservation
from alterbute.serve.http.parts_response import PartsResponse
from alterbute.serve.http.request_body import read_body, split_body
from alterbute.serve.openai.encode_image import dump_json, encode_base64, encode_timed
from alterbute.serve.openai.fields import EditForm, read_form
from alterbute.serve.openai.response import (
    AcceptedRequest,
    count_tokens_used,
    describe_edit,
    describe_output,
    make_timing_headers,
    run_while_connected,
    wait_for_result,
)
from alterbute.serve.openai.stream import EditStream
from alterbute.serve.openai.validate_request import check_request, submit_request
from alterbute.serve.scheduler.server_request import ServerResult

if TYPE_CHECKING:
    from starlette.requests import Request

    from alterbute.serve.context import Context


async def edit_images(request: Request) -> Response:
    """Edit an image; the OpenAPI document describes the fields."""
    context: Context = request.app.state.context
    context.service.check_room()
    memory = context.memory.open(client_name(request.scope))
    is_sending = False
    try:
        accepted = await _accept(request, context, memory)
        if accepted.checked.form.is_dry_run:
            return await context.run_on_pool(lambda: _describe_dry_run(accepted))
        if accepted.checked.form.is_stream:
            stream = await EditStream.open(request, accepted)
            is_sending = True
            return stream
        spec = await context.run_on_pool(accepted.checked.spec)
        server_request = submit_request(context, accepted.checked, spec)
        result = await wait_for_result(request, server_request)
        body = await context.run_on_pool(lambda: _encode_response(accepted, result))
        response = PartsResponse([body], run=context.run_on_pool, memory=memory, headers=make_timing_headers(result))
        is_sending = True  # the response, or the stream, releases the memory at its end
        return response
    finally:
        if not is_sending:
            memory.release()


async def _accept(request: Request, context: Context, memory: Reservation) -> AcceptedRequest:
    arrived_s = time.monotonic()
    form = await _read_form(request, context, memory)
    check = check_request(context, form, memory, key=request.state.key, arrived_s=arrived_s)
    checked = await run_while_connected(request, check)
    return AcceptedRequest(context=context, checked=checked, memory=memory)


async def _read_form(request: Request, context: Context, memory: Reservation) -> EditForm:
    """Read and split the body, which is freed on return: the form has copies of its files."""
    data = await read_body(request, context.settings, memory)
    content_type = request.headers.get("content-type", "")
    return await context.run_on_pool(lambda: read_form(split_body(data, content_type, context.settings, memory)))


def _encode_response(accepted: AcceptedRequest, result: ServerResult) -> bytes:
    context, checked = accepted.context, accepted.checked
    form = checked.form
    data = []
    for edit in result.edits:
        file, seconds = encode_timed(edit, form)
        context.metrics.on_stage("encode_image", seconds)
        data.append({"b64_json": encode_base64(file)})
    return dump_json(
        {
            "created": int(time.time()),
            "data": data,
            **describe_output(checked),
            "usage": count_tokens_used(context, checked),
            "alterbute": describe_edit(context, checked, result),
        }
    )


def _describe_dry_run(accepted: AcceptedRequest) -> Response:
    """The response to a dry run: everything is checked, nothing is run."""
    context, checked = accepted.context, accepted.checked
    settings, spec = context.settings, checked.spec()
    body = {
        "object": "image_edit.dry_run",
        **describe_output(checked),
        "usage": count_tokens_used(context, checked),
        "alterbute": {
            **describe_edit(context, checked, None),
            "rows": checked.rows,
            "estimate_ms": round(context.service.estimate_s(spec) * 1000, 1),
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
    return Response(dump_json(body), media_type="application/json")
