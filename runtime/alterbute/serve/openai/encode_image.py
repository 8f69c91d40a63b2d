"""Results as a client gets them: picture files, base64, and the JSON around them. All of it takes time: on threads."""

from __future__ import annotations

import base64
import io
import json
import time
from typing import Final

from PIL.Image import Resampling

from alterbute.images import Photo, encode, load_photo
from alterbute.serve.openai.fields import OutputFormat
from alterbute.serve.scheduler.server_request import ServerImage

# Previews are for looking, and travel often.
_PREVIEW_SIDE: Final = 512
_STAGES: Final = ("window", "encode", "steps", "decode", "paste")


def encode_image(photo: Photo, output_format: OutputFormat, compression: int) -> bytes:
    """A picture file. PNG and WebP at compression 100 hold every pixel; JPEG and lower compressions do not."""
    image = photo.to_pil()
    if is_lossless(output_format, compression):
        return encode(image, output_format.upper())
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


def render_preview(photo: Photo, output_format: OutputFormat) -> tuple[bytes, str]:
    """A small picture file of a photo, and its size as text."""
    image = photo.to_pil()
    image.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE), Resampling.BOX)
    small = load_photo(image)
    return encode_image(small, output_format, 100), f"{small.width}x{small.height}"


def as_text(data: bytes) -> str:
    """Base64."""
    return base64.b64encode(data).decode("ascii")


def as_json(value: object) -> bytes:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def timings_ms(edit: ServerImage) -> dict[str, float]:
    """Milliseconds by stage."""
    return {stage: round(edit.timings[stage] * 1000, 3) for stage in _STAGES}


def timed(photo: Photo, output_format: OutputFormat, compression: int) -> tuple[bytes, float]:
    """`encode_image`, and the seconds it took."""
    start = time.perf_counter()
    data = encode_image(photo, output_format, compression)
    return data, time.perf_counter() - start
