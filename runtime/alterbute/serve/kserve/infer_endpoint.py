"""KServe v2 / Open Inference Protocol over REST: the same edits as `/v1/images/edits`, as tensors."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from starlette.responses import JSONResponse, Response

from alterbute.images import Photo
from alterbute.serve.health import unready_reason
from alterbute.serve.http.connections import client_name
from alterbute.serve.http.error_response import ApiError, bad_request
from alterbute.serve.http.json_text import MAX_TEXT_BYTES, Json, LongText, printable_name
from alterbute.serve.http.limits import Reservation
from alterbute.serve.http.parts_response import PartsResponse, count_bytes
from alterbute.serve.http.request_body import Body, Source, read_body
from alterbute.serve.kserve.tensors import (
    InferRequest,
    Tensor,
    decode_picture_bytes,
    describe_outputs,
    read_infer_request,
)
from alterbute.serve.openai.encode_image import dump_json, timings_ms
from alterbute.serve.openai.fields import OPTIONS, EditForm, check_model, read_form
from alterbute.serve.openai.response import make_timing_headers, run_while_connected, wait_for_result
from alterbute.serve.openai.validate_request import check_request, submit_request
from alterbute.serve.scheduler.server_request import ServerResult
from alterbute.version import installed_version

if TYPE_CHECKING:
    from starlette.requests import Request

    from alterbute.serve.context import Context

_VERSION: Final = "1"
_PICTURES: Final[Mapping[str, str]] = {
    "IMAGE": "image",
    "MASK": "mask",
    "REFERENCE": "reference",
    "REFERENCE_MASK": "reference_mask",
    "PROTECT": "protect",
}
_SCALARS: Final[Mapping[str, str]] = {
    "SEED": "seed",
    "STEPS": "num_inference_steps",
    "GUIDANCE": "guidance_scale",
    "PROMPT": "prompt",
    "NEGATIVE_PROMPT": "negative_prompt",
}
_PARAMETERS: Final = frozenset(
    {*OPTIONS, "mask_polarity", "mask_kind", "mask_value", "dilate", "rim", "attribute", "timeout_s"}
)
_INPUTS: Final = (
    ("IMAGE", "BYTES", [1]),
    ("MASK", "BYTES", [1]),
    ("PROMPT", "BYTES", [1]),
    ("REFERENCE", "BYTES", [1]),
    ("REFERENCE_MASK", "BYTES", [1]),
    ("PROTECT", "BYTES", [1]),
    ("NEGATIVE_PROMPT", "BYTES", [1]),
    ("SEED", "INT64", [1]),
    ("STEPS", "INT32", [1]),
    ("GUIDANCE", "FP32", [1]),
)
_OUTPUTS: Final = (("IMAGE", "UINT8", [-1, -1, -1]), ("SEED_USED", "INT64", [1]), ("TIMINGS_MS", "FP32", [5]))


async def server_metadata(request: Request) -> Response:
    """Name, version and extensions of the server."""
    return JSONResponse({"name": "alterbute", "version": installed_version(), "extensions": ["binary_tensor_data"]})


async def model_metadata(request: Request) -> Response:
    """Input and output tensors of the bundle; pictures may also be UINT8 arrays."""
    context = _check_path(request)
    return JSONResponse(
        {
            "name": context.model,
            "versions": [_VERSION],
            "platform": f"alterbute_{context.backend}",
            "inputs": [{"name": name, "datatype": datatype, "shape": shape} for name, datatype, shape in _INPUTS],
            "outputs": [{"name": name, "datatype": datatype, "shape": shape} for name, datatype, shape in _OUTPUTS],
        }
    )


async def model_ready(request: Request) -> Response:
    """Whether the server would accept an edit with this bundle now: status 200, else 503."""
    context = _check_path(request)
    reason = unready_reason(context)
    return JSONResponse({"name": context.model, "ready": reason is None}, 200 if reason is None else 503)


async def infer(request: Request) -> Response:
    """Run an edit of one image; the response has the output tensors."""
    context = _check_path(request)
    context.service.check_room()
    arrived_s = time.monotonic()
    memory = context.memory.open(client_name(request.scope))
    is_answered = False
    try:
        infer_request, form = await _read_request(request, context, memory)
        check = check_request(context, form, memory, key=request.state.key, arrived_s=arrived_s)
        checked = await run_while_connected(request, check)
        _check_depth(checked.pictures.photo)
        server_request = submit_request(context, checked, await context.run_on_pool(checked.spec))
        result = await wait_for_result(request, server_request)
        response = await context.run_on_pool(lambda: _make_response(context, infer_request, result, memory))
        is_answered = True  # the response releases the memory at its end
        return response
    finally:
        if not is_answered:
            memory.release()


def _check_depth(photo: Photo) -> None:
    if photo.bits > 8:
        raise bad_request(
            f"it has {photo.bits} bits per channel, and the output IMAGE is UINT8; POST /v1/images/edits returns such files",
            "IMAGE",
        )


def _check_path(request: Request) -> Context:
    context: Context = request.app.state.context
    check_model(request.path_params["model"], context.model)
    if request.path_params.get("version", _VERSION) != _VERSION:
        raise ApiError(404, "this version is not served here", "model_not_found", "version", retry=False)
    return context


async def _read_request(request: Request, context: Context, memory: Reservation) -> tuple[InferRequest, EditForm]:
    """Read the body, which is freed on return unless tensors are parts of it."""
    data = await read_body(request, context.settings, memory)
    header_length = request.headers.get("inference-header-content-length")
    return await context.run_on_pool(lambda: _split_request(data, header_length, context, memory))


def _split_request(
    data: bytes, header_length: str | None, context: Context, memory: Reservation
) -> tuple[InferRequest, EditForm]:
    infer_request = read_infer_request(data, header_length, memory)
    files: list[tuple[str, Source]] = []
    fields: dict[str, Json] = {}
    for name, tensor in infer_request.inputs.items():
        if name in _PICTURES:
            files.append((_PICTURES[name], _read_picture(name, tensor, int(context.settings.max_file_mb * 2**20))))
        elif name in _SCALARS:
            fields[_SCALARS[name]] = _read_scalar(name, tensor)
        else:
            raise bad_request(
                f"the inputs are {', '.join((*_PICTURES, *_SCALARS))}", printable_name(name), "unknown_input"
            )
    for name, value in infer_request.parameters.items():
        if name not in _PARAMETERS or name in fields:
            raise bad_request("this parameter is unknown, or given twice", printable_name(name), "unknown_parameter")
        fields[name] = value
    # Without the inputs, which would keep the body in memory until the response.
    return replace(infer_request, inputs={}), read_form(Body(fields=fields, files=tuple(files)))


def _read_picture(name: str, tensor: Tensor, max_file: int) -> Source:
    if isinstance(tensor, list):
        if len(tensor) != 1:
            raise bad_request(f"{name} has {len(tensor)} elements; expected 1 picture file", name, "invalid_tensor")
        data = decode_picture_bytes(name, tensor[0])
        if len(data) > max_file:
            raise ApiError(413, f"{name} is over {max_file} bytes", "file_too_large", name, reason="too_large")
        return data
    is_picture = tensor.ndim == 2 or (tensor.ndim == 3 and tensor.shape[2] in (3, 4))
    if tensor.dtype != np.uint8 or not is_picture:
        raise bad_request(f"{name} is neither BYTES[1] nor UINT8 of [H,W], [H,W,3] or [H,W,4]", name, "invalid_tensor")
    return tensor


def _read_scalar(name: str, tensor: Tensor) -> Json:
    if len(tensor) != 1 or (not isinstance(tensor, list) and tensor.size != 1):
        raise bad_request(f"{name} does not have one value", name, "invalid_tensor")
    if isinstance(tensor, list):
        text = tensor[0]
        if isinstance(text, LongText) or len(text) > MAX_TEXT_BYTES:
            message = f"{name} is over {MAX_TEXT_BYTES} bytes; shorten it"
            raise ApiError(413, message, "field_too_large", name, reason="too_large")
        try:
            return text.decode()
        except UnicodeDecodeError:
            raise bad_request(f"{name} is not UTF-8", name, "invalid_encoding") from None
    value: Any = tensor.ravel()[0].item()
    return value if isinstance(value, bool | int | float) else None


def _make_response(
    context: Context, infer_request: InferRequest, result: ServerResult, memory: Reservation
) -> PartsResponse:
    edit = result.edits[0]
    outputs: dict[str, NDArray[Any]] = {
        "IMAGE": edit.pixels,
        "SEED_USED": np.array([edit.seed], np.int64),
        "TIMINGS_MS": np.array(list(timings_ms(edit).values()), np.float32),
    }
    head: dict[str, Any] = {"model_name": context.model, "model_version": _VERSION}
    if infer_request.id:
        head["id"] = infer_request.id
    parts, raw = describe_outputs(outputs, infer_request)
    parts = [dump_json(head)[:-1] + b',"outputs":', *parts, b"}"]
    headers = make_timing_headers(result)
    if raw:
        headers["inference-header-content-length"] = str(count_bytes(parts))
        headers["content-type"] = "application/octet-stream"
    return PartsResponse([*parts, *raw], run=context.run_on_pool, memory=memory, headers=headers)
