"""Error responses: the table from exceptions to HTTP statuses, the body, and retry headers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from alterbute.errors import (
    BundleError,
    Cancelled,
    DeadlineExceeded,
    DeviceError,
    EngineError,
    InputError,
    OverloadedError,
)

# Names of the runtime's arguments, and the names of the same fields in this API.
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
    "_layout",
    "_empty",
    "_full",
    "_size",
    "_without_alpha",
    "protect_covers_mask",
)
_TOO_LARGE: Final = ("_size_out_of_limits", "_too_large")


@dataclass(slots=True)
class ApiError(Exception):
    """An error that is sent to the client.

    Args:
        status: The HTTP status; 499 is only logged.
        message: Explanation for people.
        code: Stable word for programs.
        param: The field at fault, in the API's name.
        retry: Whether the same request may succeed later; None leaves that to the client.
        retry_after_s: Seconds after which to retry.
        reason: Label of `alterbute_requests_rejected_total` for a refused request.
    """

    status: int
    message: str
    code: str
    param: str | None = None
    retry: bool | None = None
    retry_after_s: float | None = None
    reason: str | None = None

    def body(self) -> dict[str, object]:
        """The JSON body, with all four keys that OpenAI's clients read."""
        return {
            "error": {"message": self.message, "type": _error_type(self.status), "param": self.param, "code": self.code}
        }

    def headers(self) -> dict[str, str]:
        """Retry headers for OpenAI's clients and for plain HTTP clients."""
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
    """Make an error with status 400 about one field.

    Args:
        message: Explanation for people.
        param: The field at fault; None when it is the whole body.
        code: Stable word for programs.
    """
    return ApiError(400, message, code, param, reason="bad_request")


def as_api_error(fault: BaseException) -> ApiError:
    """Convert an exception to its error response; one that is not in the table is a bug: status 500, no retry."""
    if isinstance(fault, ApiError):
        return fault
    if isinstance(fault, InputError):
        return _input_error(fault)
    if isinstance(fault, OverloadedError):
        status = 429 if fault.code in ("queue_full", "rate", "memory_share") else 503
        reason = {"deadline_unreachable": "deadline", "memory_share": "memory"}.get(fault.code, fault.code)
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
    message = f"{_use_api_names(fault.seen, fault.param)}; expected {fault.expected}; {_use_api_names(fault.fix, fault.param)}"
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


def _use_api_names(text: str, param: str) -> str:
    """Replace the runtime's names of arguments and flags by the API's names of fields."""
    text = text.replace("--mask-polarity", "mask_polarity").replace("--", "").replace("the photo", "the image")
    if param in PARAMS and text.startswith(param):
        text = PARAMS[param] + text.removeprefix(param)
    return "".join(char if char.isprintable() else " " for char in text)


def _error_type(status: int) -> str:
    if status == 401:
        return "authentication_error"
    if status == 403:
        return "permission_error"
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"
