"""Tensors of the Open Inference Protocol (KServe v2): from JSON values or raw bytes to arrays, and back."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from alterbute.images.files.format_names import FORMATS, name_format
from alterbute.images.files.header import read_header
from alterbute.serve.http.base64_text import decode_base64
from alterbute.serve.http.error_response import ApiError, bad_request
from alterbute.serve.http.json_text import Json, JsonLimits, LongText, printable_name, read_json
from alterbute.serve.http.limits import Reservation
from alterbute.serve.http.parts_response import Part
from alterbute.serve.openai.encode_image import dump_json

Tensor: TypeAlias = "NDArray[Any] | list[bytes | LongText]"
"""An array, or the elements of a BYTES tensor; a long one of a JSON body is its text as it was sent."""

DTYPES: Final[Mapping[str, str]] = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "FP32": "float32",
    "FP64": "float64",
}
_MAX_TENSORS: Final = 16
_MAX_DIMENSIONS: Final = 4
_JSON_LIMITS: Final = JsonLimits(
    text_bytes=24 << 20,
    values=1_000_000,
    containers=100_000,
    advice="send arrays as raw bytes (binary_data_size), or pictures as files (BYTES)",
)
_ID: Final = re.compile(r"[\w.:-]{0,128}")


@dataclass(frozen=True, slots=True, kw_only=True)
class InferRequest:
    """A parsed inference request: its tensors, its parameters, and the form of the outputs.

    Args:
        id: The client's id of the request, returned in the response.
        inputs: Tensors by name.
        parameters: Parameters of the request.
        binary: Requested outputs, and whether each is sent as raw bytes; empty if the request names none, which requests all.
        is_binary: Whether outputs are sent as raw bytes when the request names none.
    """

    id: str
    inputs: Mapping[str, Tensor]
    parameters: Mapping[str, Json]
    binary: Mapping[str, bool]
    is_binary: bool


def read_infer_request(data: bytes, header_length: str | None, memory: Reservation) -> InferRequest:
    """Parse the body of an inference request.

    Args:
        data: JSON, and possibly raw tensors after it.
        header_length: The `Inference-Header-Content-Length` header: length of the JSON in bytes.
        memory: Reservation of the request, which grows by what JSON values take.

    Raises:
        ApiError: it breaks the protocol, or a limit.
        OverloadedError: the memory budget is used up.
    """
    json_size = len(data)
    if header_length is not None:
        if (
            not header_length.isascii()
            or not header_length.isdecimal()
            or len(header_length) > 10
            or not 0 < int(header_length) <= len(data)
        ):
            raise bad_request("Inference-Header-Content-Length is not within the body", None, "invalid_tensor")
        json_size = int(header_length)
    head = read_json(data if json_size == len(data) else data[:json_size], _JSON_LIMITS, memory)
    if not isinstance(head, dict):
        raise bad_request("the body is not a JSON object", None, "invalid_json")
    for key in head.keys() - {"id", "inputs", "outputs", "parameters"}:
        raise bad_request("this key is unknown", printable_name(key), "unknown_parameter")
    identifier = head.get("id", "")
    if not isinstance(identifier, str) or not _ID.fullmatch(identifier):
        raise bad_request("id is not a short string of letters and digits", "id")
    raw, inputs = memoryview(data)[json_size:], {}
    for entry in _read_entries(head.get("inputs"), "inputs"):
        name = str(entry["name"])
        if name in inputs:
            raise bad_request("it is given twice", printable_name(name), "duplicate_field")
        inputs[name], raw = _read_tensor(name, entry, raw)
    if len(raw):
        raise bad_request("there are bytes that no input claims", None, "invalid_tensor")
    binary = {str(entry["name"]): _is_binary(entry) for entry in _read_entries(head.get("outputs", []), "outputs")}
    parameters = _read_parameters(head)
    is_binary = parameters.pop("binary_data_output", False) is True
    return InferRequest(id=identifier, inputs=inputs, parameters=parameters, binary=binary, is_binary=is_binary)


def describe_outputs(outputs: Mapping[str, NDArray[Any]], request: InferRequest) -> tuple[list[Part], list[bytes]]:
    """Return the `outputs` of a response as the parts of its JSON, and the raw tensors that follow its JSON."""
    requested = request.binary or dict.fromkeys(outputs, request.is_binary)
    parts: list[Part] = [b"["]
    raw: list[bytes] = []
    for name, is_binary in requested.items():
        if name not in outputs:
            raise bad_request(f"the outputs are {', '.join(outputs)}", printable_name(name), "unknown_output")
        array = outputs[name]
        datatype = next(datatype for datatype, dtype in DTYPES.items() if dtype == str(array.dtype))
        entry: dict[str, Json] = {"name": name, "datatype": datatype, "shape": [int(side) for side in array.shape]}
        if is_binary:
            raw.append(np.ascontiguousarray(array).tobytes())
            entry["parameters"] = {"binary_data_size": len(raw[-1])}
        elif array.dtype != np.uint8:
            entry["data"] = array.ravel().tolist()
        text = dump_json(entry)
        separator = b"," if len(parts) > 1 else b""
        if is_binary or array.dtype != np.uint8:
            parts.append(separator + text)
        else:
            parts += [separator + text[:-1] + b',"data":[', array, b"]}"]
    return [*parts, b"]"], raw


def _read_entries(value: Json, what: str) -> list[dict[str, Json]]:
    if not isinstance(value, list) or len(value) > _MAX_TENSORS:
        raise bad_request(f"{what} is not a list of at most {_MAX_TENSORS} tensors", what)
    entries = []
    for entry in value:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise bad_request(f"an entry of {what} has no name", what)
        entries.append(entry)
    return entries


def _read_tensor(name: str, entry: dict[str, Json], raw: memoryview) -> tuple[Tensor, memoryview]:
    """Read one input, from JSON or from the start of `raw`; returns it and the raw bytes that are left."""
    printable = printable_name(name)
    shape, datatype = _read_shape(printable, entry.get("shape")), str(entry.get("datatype"))
    count = math.prod(shape)
    if datatype != "BYTES" and datatype not in DTYPES:
        raise bad_request(f"its datatype is none of BYTES, {', '.join(DTYPES)}", printable, "invalid_tensor")
    size = _read_parameters(entry).get("binary_data_size")
    if size is None:
        return _from_json(printable, entry.get("data"), datatype, shape), raw
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(raw) or "data" in entry:
        raise bad_request("its binary_data_size is not what follows the JSON", printable, "invalid_tensor")
    data, rest = raw[:size], raw[size:]
    if datatype == "BYTES":
        return _split_bytes(printable, data, count), rest
    dtype = np.dtype(DTYPES[datatype])
    if size != count * dtype.itemsize:
        raise bad_request(f"it has {size} bytes; its shape needs {count * dtype.itemsize}", printable, "invalid_tensor")
    return np.frombuffer(data, dtype).reshape(shape), rest


def _read_shape(name: str, value: Json) -> tuple[int, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= _MAX_DIMENSIONS:
        raise bad_request(f"its shape is not a list of 1 to {_MAX_DIMENSIONS} sizes", name, "invalid_tensor")
    sides = []
    for side in value:
        if isinstance(side, bool) or not isinstance(side, int) or not 0 < side < 2**31:
            raise bad_request("its shape has a size that is not within 1..2^31", name, "invalid_tensor")
        sides.append(side)
    return tuple(sides)


def _from_json(name: str, data: Json, datatype: str, shape: tuple[int, ...]) -> Tensor:
    flat: list[Json] = []
    _flatten(data, flat, _MAX_DIMENSIONS)
    if not isinstance(data, list) or len(flat) != math.prod(shape):
        raise bad_request(f"it has {len(flat)} values; its shape needs {math.prod(shape)}", name, "invalid_tensor")
    if datatype == "BYTES":
        return [_text_bytes(name, value) for value in flat]
    dtype = np.dtype(DTYPES[datatype])
    for value in flat:
        is_flag = isinstance(value, bool)
        if (
            is_flag != (datatype == "BOOL")
            or not isinstance(value, int | float)
            or (dtype.kind in "iu" and not isinstance(value, int))
        ):
            raise bad_request(f"it has a value that is no {datatype}", name, "invalid_tensor")
    try:
        return _to_array(flat, dtype).reshape(shape)
    except (OverflowError, ValueError):
        raise bad_request(f"it has a value out of the range of {datatype}", name, "invalid_tensor") from None


def _to_array(values: list[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Convert numbers without wrapping or rounding to infinity, and without numpy's warnings.

    Raises:
        OverflowError: a value is out of the type's range.
    """
    if dtype.kind not in "iuf":
        return np.array(values, dtype)
    # As Python's numbers: numpy would cast the values to its type for the comparison, and warn.
    if dtype.kind == "f":
        low, high = float(np.finfo(dtype).min), float(np.finfo(dtype).max)
    else:
        low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    if values and not (low <= min(values) and max(values) <= high):
        raise OverflowError
    return np.array(values, dtype)


def _flatten(value: Json, flat: list[Json], depth: int) -> None:
    if not isinstance(value, list) or depth < 0:
        flat.append(value)
        return
    for inner in value:
        _flatten(inner, flat, depth - 1)


def _text_bytes(name: str, value: Json) -> bytes | LongText:
    if isinstance(value, LongText):
        return value
    if not isinstance(value, str):
        raise bad_request("it has a value that is no string", name, "invalid_tensor")
    return value.encode("utf-8", "surrogatepass")


def _split_bytes(name: str, data: memoryview, count: int) -> list[bytes | LongText]:
    """Elements of a raw BYTES tensor: each a length of four bytes, little-endian, and that many bytes."""
    elements: list[bytes | LongText] = []
    offset = 0
    while offset + 4 <= len(data) and len(elements) < count:
        (length,) = struct.unpack_from("<I", data, offset)
        elements.append(bytes(data[offset + 4 : offset + 4 + length]))
        offset += 4 + length
    if offset != len(data) or len(elements) != count:
        raise bad_request(f"its bytes are not {count} elements", name, "invalid_tensor")
    return elements


def _read_parameters(entry: dict[str, Json]) -> dict[str, Json]:
    parameters = entry.get("parameters", {})
    if not isinstance(parameters, dict):
        raise bad_request("it is not an object", "parameters")
    return dict(parameters)


def _is_binary(entry: dict[str, Json]) -> bool:
    parameters = _read_parameters(entry)
    for key in parameters.keys() - {"binary_data"}:
        raise bad_request("this output parameter is unknown", printable_name(key), "unknown_parameter")
    return parameters.get("binary_data", False) is True


def decode_picture_bytes(name: str, element: bytes | LongText) -> bytes:
    """Return the bytes of a picture file that was sent as raw bytes or in base64.

    Raises:
        ApiError: it is neither.
    """
    is_json = isinstance(element, LongText)
    if isinstance(element, bytes) and (not element or read_header(element) or name_format(element)):
        return element
    try:
        return decode_base64(element.raw if isinstance(element, LongText) else memoryview(element), is_json=is_json)
    except ValueError:
        raise ApiError(
            415,
            f"{name} is neither {FORMATS} nor base64 of one",
            "unsupported_image_type",
            name,
            retry=False,
            reason="bad_image",
        ) from None
