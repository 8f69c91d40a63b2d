"""The fields of `POST /v1/images/edits`: one table of names and types. A field that is not in the table is an error."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, cast

from alterbute.images import MASK_KINDS, POLARITIES, MaskKind, MaskValue, Polarity
from alterbute.images.metadata import METADATA_RULES, MetadataRule
from alterbute.request import DETAILS
from alterbute.serve.http.error_response import ApiError, bad_request
from alterbute.serve.http.json_text import Json, printable_name
from alterbute.serve.http.request_body import Body, Source

OutputFormat: TypeAlias = Literal["png", "webp", "jpeg"]
FieldReader: TypeAlias = Callable[[str, Json], Any]
"""Converts a field, given by its name and value, to the right type; raises ApiError if it cannot."""

QUALITY_STEPS: Final[Mapping[str, int | None]] = {
    "auto": None,
    "low": 8,
    "medium": 20,
    "high": 40,
    "xhigh": 60,
    "max": 100,
}
FIDELITY_SCALE: Final[Mapping[str, float]] = {"low": 0.5, "high": 1.0}
MAX_PARTIAL_IMAGES: Final = 3
_INTEGER: Final = re.compile(r"-?\d{1,19}")
_UNSUPPORTED: Final = ("complexity", "frame_count", "svg", "markup")


def _text(name: str, value: Json) -> str:
    if not isinstance(value, str):
        raise bad_request(f"{name} is not a string", name, "invalid_type")
    return value


def _integer(name: str, value: Json) -> int:
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise bad_request(f"{name} is not a whole number", name, "invalid_type")


def _number(name: str, value: Json) -> float:
    try:
        if (
            isinstance(value, str | int | float)
            and not isinstance(value, bool)
            and math.isfinite(number := float(value))
        ):
            return number
    except (ValueError, OverflowError):
        pass
    raise bad_request(f"{name} is not a finite number", name, "invalid_type")


def _flag(name: str, value: Json) -> bool:
    flags = {"true": True, "1": True, "false": False, "0": False}
    if isinstance(value, str) and value.lower() in flags:
        return flags[value.lower()]
    if isinstance(value, bool):
        return value
    raise bad_request(f"{name} is neither true nor false", name, "invalid_type")


def _interval(name: str, value: Json) -> tuple[float, float]:
    ends = value.split(",") if isinstance(value, str) else value
    if not isinstance(ends, list) or len(ends) != 2:
        raise bad_request(f"{name} is not two numbers", name, "invalid_type")
    return _number(name, ends[0]), _number(name, ends[1])


def _text_or_integer(name: str, value: Json) -> str | int:
    return value if isinstance(value, str) else _integer(name, value)


def _choice(*choices: str) -> FieldReader:
    def read(name: str, value: Json) -> str:
        if value not in choices:
            raise bad_request(f"{name} is none of {', '.join(choices)}", name)
        return str(value)

    return read


def _ignored(name: str, value: Json) -> None:
    if not isinstance(value, str):
        raise bad_request(f"{name} is not a string", name, "invalid_type")


FIELDS: Final[Mapping[str, FieldReader]] = {
    "prompt": _text,
    "model": _text,
    "n": _integer,
    "size": _text,
    "quality": _choice(*QUALITY_STEPS),
    "input_fidelity": _choice(*FIDELITY_SCALE),
    "background": _choice("auto", "opaque", "transparent"),
    "response_format": _choice("b64_json", "url"),
    "output_format": _choice("png", "webp", "jpeg"),
    "output_compression": _integer,
    "stream": _flag,
    "partial_images": _integer,
    "user": _ignored,
    "safety_identifier": _ignored,
    "moderation": _choice("auto", "low"),
    # Fields that OpenAI's API does not have.
    "seed": _integer,
    "num_inference_steps": _integer,
    "solver": _text,
    "sigmas": _text,
    "strength": _number,
    "eta": _number,
    "guidance_scale": _number,
    "identity_guidance": _number,
    "guidance_rescale": _number,
    "guidance_interval": _interval,
    "identity_scale": _number,
    "reinject": _flag,
    "negative_prompt": _text,
    "attribute": _text,
    "detail": _choice(*DETAILS),
    "mask_polarity": _choice(*POLARITIES),
    "mask_kind": _choice(*MASK_KINDS),
    "mask_value": _text_or_integer,
    "dilate": _integer,
    "rim": _integer,
    "metadata": _choice(*METADATA_RULES),
    "provenance": _flag,
    "timeout_s": _number,
    "dry_run": _flag,
}
"""All fields except files, with the function that reads each."""

OPTIONS: Final[Mapping[str, str]] = {
    "num_inference_steps": "steps",
    "guidance_scale": "guidance",
    **{
        name: name
        for name in (
            *(
                "seed",
                "solver",
                "sigmas",
                "strength",
                "eta",
                "identity_guidance",
                "guidance_rescale",
                "guidance_interval",
            ),
            *("identity_scale", "reinject", "negative_prompt", "detail"),
        )
    },
}
"""Fields that set a field of `EditRequest`, with the name of that field."""

FILES: Final = ("image", "mask", "reference", "reference_mask", "protect")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EditForm:
    """A request's fields with values of the right type, not yet checked against the bundle.

    Args:
        files: Pictures by name: `image`, and those of `reference`, `mask`, `reference_mask` and `protect` that were sent.
        prompt: What to change.
        model: Name of the bundle; None is the served one.
        count: Number of images.
        size: `auto`, or the photo's own size.
        quality: A key of `QUALITY_STEPS`.
        background: `auto`, `opaque` or `transparent`.
        output_format: Format of the result files.
        output_compression: 0..100; 100 is lossless where the format can be.
        is_stream: Whether the response is a stream of events.
        partial_images: Previews per image in the stream.
        is_dry_run: Whether to check everything and run nothing.
        attribute: The attribute whose value is the prompt; None if the prompt names it.
        mask_polarity: See `alterbute.images.Polarity`.
        mask_kind: See `alterbute.images.MaskKind`.
        mask_value: See `alterbute.images.MaskValue`.
        dilate: See `alterbute.images.load_region`.
        rim: See `alterbute.images.load_region`.
        metadata: See `EditResult.make_metadata`.
        has_provenance: Whether the result files state bundle, prompt, seed and version.
        timeout_s: Seconds after which the client does not need the result; None is the server's limit.
        options: Fields of `EditRequest` that the client set, itself or by a preset.
    """

    files: Mapping[str, Source]
    prompt: str
    model: str | None
    count: int
    size: str
    quality: str
    background: str
    output_format: OutputFormat
    output_compression: int
    is_stream: bool
    partial_images: int
    is_dry_run: bool
    attribute: str | None
    mask_polarity: Polarity
    mask_kind: MaskKind
    mask_value: MaskValue | None
    dilate: int | None
    rim: int
    metadata: MetadataRule
    has_provenance: bool
    timeout_s: float | None
    options: Mapping[str, Any]


def read_form(body: Body) -> EditForm:
    """Read fields and files into a form, with every value converted to its type.

    Raises:
        ApiError: a field is unknown, missing, or of another type; `param` names it.
    """
    values: dict[str, Any] = {}
    for name, value in body.fields.items():
        if name in _UNSUPPORTED:
            raise bad_request(f"{name} is not supported here", name, "unsupported_parameter")
        if name not in FIELDS:
            raise bad_request("this field is unknown", printable_name(name), "unknown_parameter")
        if value is not None:  # JSON's null is "not given"
            values[name] = FIELDS[name](name, value)
    if "prompt" not in values:
        raise bad_request("there is no prompt", "prompt", "missing_parameter")
    if not values["prompt"].strip():
        raise bad_request("the prompt is empty", "prompt", "invalid_value")
    if values.get("response_format") == "url":
        raise bad_request(
            "this server keeps no files: only b64_json is possible", "response_format", "unsupported_value"
        )
    if not 0 <= values.get("output_compression", 100) <= 100:
        raise bad_request("output_compression is not within 0..100", "output_compression")
    if not 0 <= values.get("partial_images", 0) <= MAX_PARTIAL_IMAGES:
        raise bad_request(f"partial_images is not within 0..{MAX_PARTIAL_IMAGES}", "partial_images")
    if values.get("partial_images", 0) and not values.get("stream", False):
        raise bad_request("partial_images needs stream", "partial_images")
    if values.get("timeout_s", 1.0) <= 0:
        raise bad_request("timeout_s is not above 0", "timeout_s")
    options = {option: values[name] for name, option in OPTIONS.items() if name in values}
    quality = values.get("quality", "auto")
    if QUALITY_STEPS[quality] is not None:
        options.setdefault("steps", QUALITY_STEPS[quality])
    if "input_fidelity" in values:
        options.setdefault("identity_scale", FIDELITY_SCALE[values["input_fidelity"]])
    return EditForm(
        files=_name_files(body),
        prompt=values["prompt"],
        model=values.get("model"),
        count=values.get("n", 1),
        size=values.get("size", "auto"),
        quality=quality,
        background=values.get("background", "auto"),
        output_format=cast(OutputFormat, values.get("output_format", "png")),
        output_compression=values.get("output_compression", 100),
        is_stream=values.get("stream", False),
        partial_images=values.get("partial_images", 0),
        is_dry_run=values.get("dry_run", False),
        attribute=values.get("attribute"),
        mask_polarity=cast(Polarity, values.get("mask_polarity", "auto")),
        mask_kind=cast(MaskKind, values.get("mask_kind", "precise")),
        mask_value=values.get("mask_value"),
        dilate=values.get("dilate"),
        rim=values.get("rim", 0),
        metadata=cast(MetadataRule, values.get("metadata", "safe")),
        has_provenance=values.get("provenance", True),
        timeout_s=values.get("timeout_s"),
        options=options,
    )


def _name_files(body: Body) -> dict[str, Source]:
    """Name the files: the first `image` (or `image[]`) is the photo, a second one is the reference."""
    files: dict[str, Source] = {}
    for field, data in body.files:
        name = "image" if field in ("image", "image[]") else field
        if name == "image" and "image" in files:
            name = "reference"
        if name not in FILES:
            raise bad_request("this file field is unknown", printable_name(field), "unknown_parameter")
        if name in files:
            message = (
                "there are more than two images: one to edit, one reference"
                if name == "reference"
                else "it is given twice"
            )
            raise bad_request(message, "image" if name == "reference" else name, "too_many_files")
        files[name] = data
    if "image" not in files:
        raise bad_request("there is no image", "image", "missing_parameter")
    return files


def check_model(form_model: str | None, name: str) -> None:
    """Refuse a model that is not served.

    Raises:
        ApiError: 404.
    """
    if form_model is not None and form_model != name:
        raise ApiError(
            404, "this model is not served here; GET /v1/models lists what is", "model_not_found", "model", retry=False
        )
