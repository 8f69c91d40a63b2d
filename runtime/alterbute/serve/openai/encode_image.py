"""Encoding of results: picture files, base64 and JSON. Slow for large photos, so it is called on threads of the pool."""

from __future__ import annotations

import base64
import io
import json
import time
from typing import Any, Final

from PIL.Image import Resampling

from alterbute.images import Photo, encode_photo, load_photo
from alterbute.images.metadata import NO_METADATA, Metadata
from alterbute.result import EditResult
from alterbute.serve.openai.fields import EditForm, OutputFormat

# Previews are small, because several are sent per image and each is shown only until the next.
_PREVIEW_SIDE: Final = 512
_STAGES: Final = ("window", "encode", "steps", "decode", "paste")


def encode_image(
    photo: Photo, output_format: OutputFormat, compression: int, metadata: Metadata = NO_METADATA
) -> bytes:
    """Encode a photo as a picture file. PNG, and WebP at compression 100, are lossless; JPEG and lower compressions are not.

    Args:
        photo: The photo; of 8 bits for a lossy file.
        output_format: `png`, `webp` or `jpeg`.
        compression: 0..100; quality of a lossy file.
        metadata: What the file is to hold besides pixels and colour.
    """
    if is_lossless(output_format, compression):
        return encode_photo(photo, "WEBP" if output_format == "webp" else "PNG", metadata)
    image = photo.to_pil()
    buffer = io.BytesIO()
    blocks: dict[str, Any] = {
        "icc_profile": photo.icc,
        "exif": metadata.exif or b"",
        "xmp": metadata.xmp or b"",
    }
    if output_format == "jpeg":
        dpi = {} if metadata.dpi is None else {"dpi": metadata.dpi}
        image.convert("RGB").save(buffer, "JPEG", quality=max(compression, 1), subsampling=0, **dpi, **blocks)
    else:
        image.save(buffer, "WEBP", quality=compression, exact=True, **blocks)
    return buffer.getvalue()


def is_lossless(output_format: OutputFormat, compression: int) -> bool:
    """Whether the file's background is the photo's, bit for bit."""
    return output_format == "png" or (output_format == "webp" and compression == 100)


def encode_preview(photo: Photo, output_format: OutputFormat) -> tuple[bytes, str]:
    """Encode a photo as a small picture file; returns the file, and its size as `WIDTHxHEIGHT`."""
    image = photo.to_8_bits().to_pil()
    image.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE), Resampling.BOX)
    small = load_photo(image)
    return encode_image(small, output_format, 100), f"{small.width}x{small.height}"


def encode_base64(data: bytes) -> str:
    """Encode bytes as base64 text."""
    return base64.b64encode(data).decode("ascii")


def dump_json(value: object) -> bytes:
    """Encode a value as compact JSON in UTF-8."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def timings_ms(edit: EditResult) -> dict[str, float]:
    """Milliseconds that each stage of an image took, in the order of `_STAGES`."""
    return {stage: round(edit.timings[stage] * 1000, 3) for stage in _STAGES}


def encode_timed(edit: EditResult, form: EditForm) -> tuple[bytes, float]:
    """Encode a result as the picture file that a request asks for, and measure the time.

    Args:
        edit: The result.
        form: The request's form.

    Returns:
        The file, and the seconds that encoding took.
    """
    start = time.perf_counter()
    metadata = edit.make_metadata(form.metadata, provenance=form.has_provenance)
    data = encode_image(edit.photo, form.output_format, form.output_compression, metadata)
    return data, time.perf_counter() - start
