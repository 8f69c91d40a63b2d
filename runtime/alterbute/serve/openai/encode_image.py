"""Encoding of results: picture files, base64 and JSON. Slow for large photos, so it is called on threads of the pool."""

from __future__ import annotations

import base64
import io
import json
import time
from typing import Final

from PIL.Image import Resampling

from alterbute.images import Photo, encode_photo, load_photo
from alterbute.serve.openai.fields import OutputFormat
from alterbute.serve.scheduler.server_request import ServerImage

# Previews are small, because several are sent per image and each is shown only until the next.
_PREVIEW_SIDE: Final = 512
_STAGES: Final = ("window", "encode", "steps", "decode", "paste")


def encode_image(photo: Photo, output_format: OutputFormat, compression: int) -> bytes:
    """Encode a photo as a picture file. PNG, and WebP at compression 100, are lossless; JPEG and lower compressions are not.

    Args:
        photo: The photo.
        output_format: `png`, `webp` or `jpeg`.
        compression: 0..100; quality of a lossy file.
    """
    if is_lossless(output_format, compression):
        return encode_photo(photo, "WEBP" if output_format == "webp" else "PNG")
    image = photo.to_pil()
    buffer = io.BytesIO()
    icc = image.info.get("icc_profile")
    if output_format == "jpeg":
        image.convert("RGB").save(buffer, "JPEG", quality=max(compression, 1), subsampling=0, icc_profile=icc)
    else:
        image.save(buffer, "WEBP", quality=compression, exact=True, icc_profile=icc)
    return buffer.getvalue()


def is_lossless(output_format: OutputFormat, compression: int) -> bool:
    """Whether the file's background is the photo's, bit for bit."""
    return output_format == "png" or (output_format == "webp" and compression == 100)


def encode_preview(photo: Photo, output_format: OutputFormat) -> tuple[bytes, str]:
    """Encode a photo as a small picture file; returns the file, and its size as `WIDTHxHEIGHT`."""
    image = photo.to_pil()
    image.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE), Resampling.BOX)
    small = load_photo(image)
    return encode_image(small, output_format, 100), f"{small.width}x{small.height}"


def encode_base64(data: bytes) -> str:
    """Encode bytes as base64 text."""
    return base64.b64encode(data).decode("ascii")


def dump_json(value: object) -> bytes:
    """Encode a value as compact JSON in UTF-8."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def timings_ms(edit: ServerImage) -> dict[str, float]:
    """Milliseconds that each stage of an image took, in the order of `_STAGES`."""
    return {stage: round(edit.timings[stage] * 1000, 3) for stage in _STAGES}


def encode_timed(photo: Photo, output_format: OutputFormat, compression: int) -> tuple[bytes, float]:
    """Encode a photo as a picture file, and measure the time.

    Args:
        photo: The photo.
        output_format: `png`, `webp` or `jpeg`.
        compression: 0..100; quality of a lossy file.

    Returns:
        The file, and the seconds that encoding took.
    """
    start = time.perf_counter()
    data = encode_image(photo, output_format, compression)
    return data, time.perf_counter() - start
