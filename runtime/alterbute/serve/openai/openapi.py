"""The OpenAPI document: descriptions written by hand, names and types from the table of fields."""

from __future__ import annotations

from typing import Any, Final

from alterbute.images import MASK_KINDS, POLARITIES
from alterbute.images.masks.region import MAX_RIM
from alterbute.images.metadata import METADATA_RULES
from alterbute.request import DETAILS
from alterbute.serve.openai.fields import FIDELITY_SCALE, FIELDS, FILES, MAX_PARTIAL_IMAGES, QUALITY_STEPS
from alterbute.version import installed_version

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_NUMBER: Final[Schema] = {"type": "number"}
_INTEGER: Final[Schema] = {"type": "integer"}
_FLAG: Final[Schema] = {"type": "boolean"}

_FIELDS: Final[dict[str, Schema]] = {
    "prompt": {**_TEXT, "minLength": 1, "description": "What to change, such as `color: red`."},
    "model": {**_TEXT, "description": "The served bundle's name; another one is an error."},
    "n": {**_INTEGER, "minimum": 1, "description": "Images; image i has seed + i."},
    "size": {**_TEXT, "description": "`auto`, or the image's own size: the background is kept bit for bit."},
    "quality": {**_TEXT, "enum": list(QUALITY_STEPS), "description": "Presets of `num_inference_steps`."},
    "input_fidelity": {**_TEXT, "enum": list(FIDELITY_SCALE), "description": "Presets of `identity_scale`."},
    "background": {**_TEXT, "enum": ["auto", "opaque", "transparent"]},
    "response_format": {**_TEXT, "enum": ["b64_json"]},
    "output_format": {
        **_TEXT,
        "enum": ["png", "webp", "jpeg"],
        "description": "PNG and lossless WebP keep the background exactly.",
    },
    "output_compression": {
        **_INTEGER,
        "minimum": 0,
        "maximum": 100,
        "description": "For jpeg; below 100 it makes webp lossy.",
    },
    "stream": {**_FLAG, "description": "Answer with server-sent events."},
    "partial_images": {**_INTEGER, "minimum": 0, "maximum": MAX_PARTIAL_IMAGES},
    "user": {**_TEXT, "description": "Ignored."},
    "safety_identifier": {**_TEXT, "description": "Ignored."},
    "moderation": {**_TEXT, "enum": ["auto", "low"], "description": "Ignored."},
    "seed": {**_INTEGER, "minimum": 0, "description": "The same seed gives the same bytes."},
    "num_inference_steps": {**_INTEGER, "minimum": 1},
    "solver": _TEXT,
    "sigmas": {**_TEXT, "description": "How noise levels are spread over the steps."},
    "strength": {**_NUMBER, "exclusiveMinimum": 0, "maximum": 1},
    "eta": {**_NUMBER, "minimum": 0, "maximum": 1},
    "guidance_scale": {**_NUMBER, "minimum": 0, "maximum": 100},
    "identity_guidance": {**_NUMBER, "minimum": 0, "maximum": 100},
    "guidance_rescale": {**_NUMBER, "minimum": 0, "maximum": 1},
    "guidance_interval": {
        **_TEXT,
        "description": "Start and end as shares of the steps: `0,0.8` in a form, a list in JSON.",
    },
    "identity_scale": {**_NUMBER, "minimum": 0, "maximum": 10},
    "reinject": _FLAG,
    "negative_prompt": _TEXT,
    "attribute": {**_TEXT, "description": "Attribute that the prompt is the value of: `color` with the prompt `red`."},
    "detail": {
        **_TEXT,
        "enum": list(DETAILS),
        "description": "Where the object's detail comes from: the photo, through the edit's local colours, or the model.",
    },
    "mask_polarity": {
        **_TEXT,
        "enum": list(POLARITIES),
        "description": "Which of the masks' pixels are the object.",
    },
    "mask_kind": {**_TEXT, "enum": list(MASK_KINDS)},
    "mask_value": {
        **_TEXT,
        "description": "The object's label in a label image: a level, a palette index, or `#rrggbb`.",
    },
    "rim": {
        **_INTEGER,
        "minimum": 0,
        "maximum": MAX_RIM,
        "description": "Pixels around the mask that may change, too.",
    },
    "dilate": {**_INTEGER, "minimum": 1, "description": "Odd; pixels of the model's window."},
    "metadata": {
        **_TEXT,
        "enum": list(METADATA_RULES),
        "description": "What stays of the image's metadata: `safe` keeps resolution, captions and copyright; `keep`; `strip`.",
    },
    "provenance": {**_FLAG, "description": "Whether the files state bundle, prompt, seed and version."},
    "timeout_s": {
        **_NUMBER,
        "exclusiveMinimum": 0,
        "description": "Deadline of the request in seconds; the server's own is the longest.",
    },
    "dry_run": {**_FLAG, "description": "Check everything, return plan and limits, run nothing."},
}

_ERRORS: Final = {
    "400": "Malformed or unsupported; `param` names the field.",
    "401": "No API key, or a wrong one.",
    "403": "From another origin, or to a host name that is not this server's.",
    "404": "Nothing here, or a model that is not served.",
    "408": "The body came too slowly.",
    "413": "A body, file or picture that is too large.",
    "415": "Not a picture of a supported format, or a body of another type.",
    "422": "Readable and unusable: an empty mask, another size, CMYK, HDR...",
    "429": "The queue is full, or the key's rate is used up; see Retry-After.",
    "503": "Stopping, or the deadline cannot be met; see Retry-After.",
    "504": "The deadline passed.",
}


def make_document(model: str) -> Schema:
    """Make the OpenAPI document of a server with this bundle."""
    assert _FIELDS.keys() == FIELDS.keys()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "alterbute",
            "version": installed_version(),
            "summary": f"Edits of the bundle {model}; every pixel outside the mask stays the image's, bit for bit.",
        },
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": _error_schema(), "Edit": _edit_schema(), "Model": _model_schema()},
        },
        "security": [{"key": []}, {}],
        "paths": {
            "/v1/images/edits": {"post": _edit_operation()},
            "/v1/models": {"get": _get("The served bundle.", schema=_list_of("Model"))},
            "/v1/models/{model}": {"get": _get("A bundle by name.", "model", schema=_refer("Model"))},
            "/v2": {"get": _get("KServe v2: the server.")},
            "/v2/models/{model}": {"get": _get("KServe v2: a bundle's tensors.", "model")},
            "/v2/models/{model}/ready": {"get": _get("KServe v2: whether a bundle is ready.", "model")},
            "/v2/models/{model}/infer": {"post": _infer_operation("model")},
            "/v2/models/{model}/versions/{version}": {
                "get": _get("The same as without a version.", "model", "version")
            },
            "/v2/models/{model}/versions/{version}/ready": {
                "get": _get("The same as without a version.", "model", "version")
            },
            "/v2/models/{model}/versions/{version}/infer": {"post": _infer_operation("model", "version")},
            "/v2/health/live": {"get": _get("The same as /health/live.")},
            "/v2/health/ready": {"get": _get("The same as /health/ready.")},
            "/health/live": {"get": _get("Whether the process works; it should be restarted if not.")},
            "/health/ready": {"get": _get("Whether a request would be accepted.")},
            "/metrics": {"get": _get("Prometheus text.", content="text/plain")},
            "/openapi.json": {"get": _get("This document.")},
        },
    }


def _edit_operation() -> Schema:
    file = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}
    url = {
        "type": "object",
        "required": ["image_url"],
        "additionalProperties": False,
        "properties": {"image_url": _TEXT},
    }
    image = {"anyOf": [file, {"type": "array", "items": file, "minItems": 1, "maxItems": 2}]}
    in_json = {**_FIELDS, "guidance_interval": {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2}}
    return {
        "operationId": "edit_images",
        "summary": "Edit an image inside a mask.",
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["image", "prompt"],
                        "additionalProperties": False,
                        "properties": {**_FIELDS, **dict.fromkeys(FILES, file), "image": image},
                    }
                },
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["images", "prompt"],
                        "additionalProperties": False,
                        "properties": {
                            **in_json,
                            **dict.fromkeys(FILES[1:], url),
                            "images": {"type": "array", "items": url, "minItems": 1, "maxItems": 2},
                        },
                    }
                },
            },
        },
        "responses": {
            "200": {
                "description": "The edited images.",
                "content": {
                    "application/json": {"schema": {"$ref": "#/components/schemas/Edit"}},
                    "text/event-stream": {},
                },
            },
            **_error_responses("#/components/schemas/Error"),
        },
    }


def _infer_operation(*parameters: str) -> Schema:
    tensor = {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": _TEXT,
            "shape": {"type": "array", "items": _INTEGER},
            "datatype": _TEXT,
            "parameters": {"type": "object"},
            "data": {},
        },
    }
    output = {"type": "object", "required": ["name"], "properties": {"name": _TEXT, "parameters": {"type": "object"}}}
    body = {
        "type": "object",
        "required": ["inputs"],
        "additionalProperties": False,
        "properties": {
            "id": _TEXT,
            "inputs": {"type": "array", "items": tensor},
            "outputs": {"type": "array", "items": output},
            "parameters": {"type": "object"},
        },
    }
    return {
        "summary": "KServe v2: one edit, as tensors.",
        "parameters": _path_parameters(parameters),
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {"200": {"description": "The output tensors."}, **_error_responses(None)},
    }


def _get(summary: str, *parameters: str, content: str = "application/json", schema: Schema | None = None) -> Schema:
    errors = {code: {"description": _ERRORS[code]} for code in ("401", "403", "404", "503")}
    body = {} if schema is None else {"schema": schema}
    return {
        "summary": summary,
        "parameters": _path_parameters(parameters),
        "responses": {"200": {"description": "OK", "content": {content: body}}, **errors},
    }


def _refer(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _list_of(name: str) -> Schema:
    return {
        "type": "object",
        "required": ["object", "data"],
        "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": _refer(name)}},
    }


def _path_parameters(names: tuple[str, ...]) -> list[Schema]:
    return [{"name": name, "in": "path", "required": True, "schema": _TEXT} for name in names]


def _error_responses(schema: str | None) -> Schema:
    content = {} if schema is None else {"content": {"application/json": {"schema": {"$ref": schema}}}}
    return {code: {"description": text, **content} for code, text in _ERRORS.items()}


def _error_schema() -> Schema:
    nullable = {"type": ["string", "null"]}
    properties = {"message": _TEXT, "type": _TEXT, "param": nullable, "code": nullable}
    error = {"type": "object", "required": list(properties), "properties": properties}
    return {"type": "object", "required": ["error"], "properties": {"error": error}}


def _edit_schema() -> Schema:
    datum = {"type": "object", "required": ["b64_json"], "properties": {"b64_json": _TEXT}}
    return {
        "type": "object",
        "properties": {
            "created": _INTEGER,
            "data": {"type": "array", "items": datum},
            "output_format": _TEXT,
            "size": _TEXT,
            "quality": _TEXT,
            "background": _TEXT,
            "usage": {"type": "object"},
            "alterbute": {"type": "object", "description": "Seeds, steps, bundle, mask, timings, warnings."},
        },
    }


def _model_schema() -> Schema:
    own = {
        "bundle_sha256": _TEXT,
        "family": _TEXT,
        "resolution": _INTEGER,
        "resolutions": {"type": "array", "items": _INTEGER},
        "backend": {**_TEXT, "description": "What runs the bundle: `onnxruntime` is the CPU, the others are GPUs."},
        "device": {**_TEXT, "description": "The GPU's name, or `cpu`."},
        "precision": {**_TEXT, "description": "Type in which the step graph runs."},
        "attributes": {"type": ["object", "null"], "description": "Vocabulary; null is an open one."},
        "defaults": {"type": "object"},
    }
    properties = {
        "id": _TEXT,
        "object": {"const": "model"},
        "created": _INTEGER,
        "owned_by": _TEXT,
        "alterbute": {"type": "object", "required": list(own), "properties": own},
    }
    return {"type": "object", "required": list(properties), "properties": properties}
