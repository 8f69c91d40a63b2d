"""Every error as a client sees it: one table from exceptions to statuses, one body, and what to do about retries."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from alterbute.errors import (
    AlterbuteError,
    BundleError,
    Cancelled,
    DeadlineExceeded,
    DeviceError,
    EngineError,
    InputError,
    OverloadedError,
)

# The runtime's names of things, as this API names them.
PARAMS: Final = {
    "photo": "image",
    "count": "n",
    "steps": "num_inference_steps",
    "guidance": "guidance_scale",
}
_UNUSABLE: Final = (
    "_bit_depth",
    "_colour_model",
    "_animated",
    "_empty",
    "_full",
    "_size",
    "_without_alpha",
    "protect_covers_mask",
)
_TOO_LARGE: Final = ("_size_out_of_limits", "_too_large")


@dataclass(slots=True)
class ApiError(Exception):
    """An error on its way to a client.

    Args:
        status: The HTTP status; 499 is only ever logged.
        message: For people.
        code: For machines.
        param: The field at fault, as the client named it.
        retry: Whether the same request may succeed later; None leaves that to the client's own rules.
        retry_after_s: When.
        reason: The label of `alterbute_requests_rejected_total`, if it was rejected.
    """

    status: int
    message: str
    code: str
    param: str | None = None
    retry: bool | None = None
    retry_after_s: float | None = None
    reason: str | None = None

    def body(self) -> dict[str, object]:
        """All four keys, always: OpenAI's clients read each of them."""
        return {"error": {"message": self.message, "type": _type(self.status), "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """What the client should do next, as OpenAI's clients and plain HTTP ones understand it."""
        headers = {}
        if self.retry is not None:
            headers["x-should-retry"] = str(self.retry).lower()
        if self.retry_after_s is not None:
            headers["retry-after"] = str(max(math.ceil(self.retry_after_s), 1))
            headers["retry-after-ms"] = str(max(math.ceil(self.retry_after_s * 1000), 1))
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return headers


def bad_request(message: str, param: str | None, code: str = "invalid_value") -> ApiError:
    """A 400 about one field."""
    return ApiError(400, message, code, param, reason="bad_request")


def as_api_error(fault: BaseException) -> ApiError:
    """The table. What it does not know is a bug: 500, and not to be tried again."""
    if isinstance(fault, ApiError):
        return fault
    if isinstance(fault, InputError):
        return _input_error(fault)
    if isinstance(fault, OverloadedError):
        status = 429 if fault.code in ("queue_full", "rate") else 503
        reason = {"deadline_unreachable": "deadline", "memory": "queue_full"}.get(fault.code, fault.code)
        code = {"rate": "rate_limit_exceeded"}.get(fault.code, fault.code)
        return ApiError(status, str(fault), code, retry=True, retry_after_s=fault.retry_after_s, reason=reason)
    if isinstance(fault, DeadlineExceeded):
        return ApiError(504, str(fault), "deadline_exceeded", "timeout_s", retry=False, reason="deadline")
    if isinstance(fault, Cancelled):
        return ApiError(499, str(fault), "cancelled", retry=False)
    if isinstance(fault, DeviceError):
        return ApiError(
            503, "the device failed; another try may reach a sound one", "device_fault", retry=True, retry_after_s=5
        )
    if isinstance(fault, EngineError):
        return ApiError(
            500, "the engine could not make this edit; trying again will not help", "engine_error", retry=False
        )
    if isinstance(fault, BundleError):
        return ApiError(500, "the bundle on the server is damaged", "bundle_error", retry=False)
    return ApiError(
        500, "the server made a mistake; it was logged under this request's id", "internal_error", retry=False
    )


def _input_error(fault: InputError) -> ApiError:
    param, code = PARAMS.get(fault.param, fault.param) or None, fault.code or "invalid_value"
    message = (
        f"{_in_our_words(fault.seen, fault.param)}; expected {fault.expected}; {_in_our_words(fault.fix, fault.param)}"
    )
    if code.endswith("_not_an_image"):
        return ApiError(415, message, "unsupported_image_type", param, retry=False, reason="bad_image")
    if code.endswith(_TOO_LARGE):
        return ApiError(413, message, "image_too_large", param, retry=False, reason="too_large")
    if code.endswith("_undecodable"):
        return ApiError(
            400, message, "image_truncated" if "truncated" in fault.seen else "image_damaged", param, reason="bad_image"
        )
    if code.endswith(_UNUSABLE):
        return ApiError(422, message, code, param, retry=False, reason="bad_image")
    if code == "request_quarantined":
        return ApiError(422, message, code, param, retry=False, reason="bad_image")
    return ApiError(400, message, code, param, reason="bad_request")


def _in_our_words(text: str, param: str) -> str:
    """The runtime speaks of its own arguments and flags; a client of this API knows other names."""
    text = text.replace("--mask-polarity", "mask_polarity").replace("--", "").replace("the photo", "the image")
    if param in PARAMS and text.startswith(param):
        text = PARAMS[param] + text.removeprefix(param)
    return "".join(char if char.isprintable() else " " for char in text)


def _type(status: int) -> str:
    if status in (401, 403):
        return "authentication_error"
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"


def describe(fault: AlterbuteError | ApiError) -> str:
    """A word for logs that holds nothing of the request."""
    return fault.code if isinstance(fault, ApiError | OverloadedError | InputError) else type(fault).__name__
