"""Pixels of a JPEG, all of them or none: libjpeg fills what is missing with grey, and only warns.

Decoding is by libjpeg-turbo through simplejpeg, for which each of those warnings is an error, and gives the pixels that Pillow
gives. What libjpeg does not warn of is found by decoding again, with coded data cut or lengthened:

- bytes that belong to no pixel (a frame that is smaller than what is coded). Without their last byte, the data of the first scan of
  each component must be too short. Zeros and ones behind the last pixel are padding.
- arithmetic coding, whose decoder takes zeros for what is missing. A whole file is decoded to the same pixels whatever follows the
  first bytes behind its data.
- sampling factors that TurboJPEG does not know. Pillow decodes them, and drops the warnings: what follows the data must not matter,
  and its last bytes must.

Changed bits that are still a picture cannot be found: a JPEG has no checksums. In arithmetic code, neither can the loss of the last
few bytes, because its encoders leave out zeros there.
"""

from __future__ import annotations

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np

from alterbute.images.files.canvas import Planes, as_stored, make_planes, paint
from alterbute.images.files.jpeg.jpeg_markers import ARITHMETIC, JpegFile
from alterbute.images.files.jpeg.jpeg_rebuilt import join_jpeg, lengthen, strip_padding
from alterbute.images.files.jpeg.jpeg_scans import check_scans
from alterbute.images.files.pillow.strict_load import load_strictly
from alterbute.images.photo import Bytes

_TRUNCATED: Final = "image file is truncated"
_LEFT_OVER: Final = "it has bytes that belong to no pixel: its header may give a wrong size"
# Zeros that an encoder of arithmetic code leaves out at its end: one byte in 1 of 4 pieces, more behind flat parts.
_LEFT_OUT: Final = 10
# Each starts with other bits.
_PADDINGS: Final = (0x55, 0xAA, 0x00, 0xFE)
# With it a change of one step in a coefficient changes levels.
_COARSE: Final = 16
_MAX_TRIES: Final = 12


class _UnknownSamplingError(OSError):
    """TurboJPEG does not know the sampling factors."""


def decode_jpeg(file: JpegFile, *, orientation: int, is_grey: bool) -> Planes:
    """Decode the pixels of a JPEG.

    Args:
        file: Its parts.
        orientation: EXIF orientation 1..8 by which it is shown.
        is_grey: Whether one plane is wanted of a grey picture; its colours are three otherwise.

    Returns:
        Upright levels, uint8.

    Raises:
        OSError: pixels are missing or damaged, or there are bytes that belong to none.
    """
    check_scans(file)
    is_grey = is_grey and len(file.components) == 1
    try:
        levels = _decode_arithmetic(file, is_grey) if file.frame_marker in ARITHMETIC else _decode_huffman(file, is_grey)
    except _UnknownSamplingError:
        levels = _decode_with_pillow(file)
    if orientation == 1:
        return Planes(colors=levels)
    planes = make_planes((file.width, file.height), orientation, is_grey=is_grey)
    paint(as_stored(planes.colors, orientation), levels)
    return planes


def _decode_huffman(file: JpegFile, is_grey: bool) -> Bytes:
    levels = _decode_padded(file, is_grey)
    for number, scan in enumerate(file.scans):
        # Every block has bits in the first scan of its first coefficient.
        if scan.first == 0 and scan.high == 0:
            _check_last_byte(file, number)
    return levels


def _decode_padded(file: JpegFile, is_grey: bool) -> Bytes:
    """Decode, without the zeros behind the last pixel that some cameras write, where there are so many that libjpeg warns."""
    scan = file.scans[-1]
    coded = file.data[scan.data_at : scan.data_end]
    least, most = 0, len(coded) - len(coded.rstrip(b"\0"))
    try:
        return _decode_strictly(join_jpeg(file), is_grey)
    except OSError as fault:
        if str(fault) != _LEFT_OVER or not most:
            raise
    # Zeros may also be code: the number of them that is neither too small nor too large.
    full, kept = most, 0
    for _ in range(_MAX_TRIES):
        try:
            return _decode_strictly(join_jpeg(file, last_end=scan.data_end - full + kept), is_grey)
        except OSError as fault:
            if str(fault) not in (_TRUNCATED, _LEFT_OVER):
                raise
            least, most = (kept + 1, most) if str(fault) == _TRUNCATED else (least, kept - 1)
        if least > most:
            break
        kept = least if least < 2 else (least + most) // 2
    raise OSError(_LEFT_OVER)


def _check_last_byte(file: JpegFile, number: int) -> None:
    """Check that a scan needs its last byte: libjpeg reads up to eight bytes ahead, and does not warn where they are left over."""
    scan = file.scans[number]
    end = strip_padding(file, number)
    try:
        _decode_strictly(join_jpeg(file, num_scans=number + 1, last_end=max(end - 1, scan.data_at)), False, is_small=True)
    except _UnknownSamplingError:
        raise
    except OSError as fault:
        if str(fault) == _TRUNCATED:
            return
        raise
    raise OSError(_LEFT_OVER)


def _decode_arithmetic(file: JpegFile, is_grey: bool) -> Bytes:
    levels = _decode_strictly(join_jpeg(file), is_grey)
    _check_by_padding(file, levels, lambda coded: _decode(coded, is_grey, is_strict=False))
    return levels


def _decode_with_pillow(file: JpegFile) -> Bytes:
    from PIL.JpegImagePlugin import JpegImageFile

    def decode(coded: bytes) -> Bytes:
        with JpegImageFile(io.BytesIO(coded)) as image:
            load_strictly(image)
            levels: Any = np.asarray(image)
        return levels

    levels = decode(join_jpeg(file))
    _check_by_padding(file, levels, decode)
    return levels


def _check_by_padding(file: JpegFile, levels: Bytes, decode: Callable[[bytes], Bytes]) -> None:
    """Check that no data is missing and none left over, with a decoder that does not tell.

    Args:
        file: The parts.
        levels: What the file is decoded to.
        decode: The decoder.
    """
    is_arithmetic = file.frame_marker in ARITHMETIC
    zeros, paddings = (_LEFT_OUT, _PADDINGS[:2]) if is_arithmetic else (0, _PADDINGS)
    for value in paddings:
        if not np.array_equal(levels, decode(join_jpeg(lengthen(file, zeros, value)))):
            raise OSError(_TRUNCATED)
    for number, scan in enumerate(file.scans):
        if scan.first == 0 and scan.high == 0 and not _needs_last_byte(file, number, decode):
            raise OSError(_LEFT_OVER)


def _needs_last_byte(file: JpegFile, number: int, decode: Callable[[bytes], Bytes]) -> bool:
    """Whether coefficients change where the last byte of a scan is another; levels that are rounded or cut off do not show it."""
    start = replace(file, scans=file.scans[: number + 1])
    scan = file.scans[number]
    end = max(strip_padding(file, number) - 1, scan.data_at)
    cut = replace(scan, data_end=end, restarts=scan.restarts[scan.restarts < end])
    for quantizer in (_COARSE, None):
        whole = decode(join_jpeg(start, quantizer=quantizer, shows_all=True))
        for value in _PADDINGS:
            changed = lengthen(replace(start, scans=(*start.scans[:-1], cut)), 0, value)
            if not np.array_equal(whole, decode(join_jpeg(changed, quantizer=quantizer, shows_all=True))):
                return True
    return False


def _decode_strictly(coded: bytes, is_grey: bool, *, is_small: bool = False) -> Bytes:
    """Decode with simplejpeg: a warning is an error.

    Args:
        coded: A whole file.
        is_grey: Whether HW is wanted of a grey picture, not HW3.
        is_small: Whether to decode to an eighth of the size, which takes all of the code and less time.
    """
    return _decode(coded, is_grey, factor=8.0 if is_small else 1.0, is_strict=True)


def _decode(coded: bytes, is_grey: bool, *, factor: float = 1.0, is_strict: bool) -> Bytes:
    import simplejpeg

    try:
        levels: Any = simplejpeg.decode_jpeg(
            coded, colorspace="GRAY" if is_grey else "RGB", min_factor=factor, strict=is_strict
        )
    except ValueError as fault:
        text = str(fault)
        if "subsampling" in text:
            raise _UnknownSamplingError(text) from None
        is_short = "premature end" in text.lower()
        raise OSError(_TRUNCATED if is_short else _LEFT_OVER if "extraneous" in text else text) from None
    return levels[:, :, 0] if is_grey else levels
