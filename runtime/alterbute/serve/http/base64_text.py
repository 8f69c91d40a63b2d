"""Base64 that a client sent, decoded in pieces: no step holds Python's lock for long, and no copy of the text is made."""

from __future__ import annotations

import binascii
import io
from typing import Final

_PIECE_BYTES: Final = 1 << 20
_ESCAPE_BYTES: Final = 6
# How JSON writers escape the characters of base64: PHP the slash, .NET the plus sign, Gson the equals sign.
_ESCAPES: Final = (
    (b"\\/", b"/"),
    (b"\\u002F", b"/"),
    (b"\\u002f", b"/"),
    (b"\\u002B", b"+"),
    (b"\\u002b", b"+"),
    (b"\\u003D", b"="),
    (b"\\u003d", b"="),
)


def decode_base64(text: memoryview, *, is_json: bool) -> bytes:
    """Decode padded base64 of RFC 4648, section 4, without line breaks.

    Args:
        text: The base64 text in ASCII.
        is_json: Whether it is the inside of a JSON string, where some characters may be escaped.

    Raises:
        ValueError: it is not such base64.
    """
    decoded = io.BytesIO()
    start, rest = 0, b""
    while start < len(text):
        piece = bytes(text[start : start + _PIECE_BYTES])
        if is_json and start + len(piece) < len(text):
            # An escape that the piece cuts belongs to the next piece.
            cut = piece.rfind(b"\\", len(piece) - _ESCAPE_BYTES + 1)
            piece = piece[:cut] if cut > 0 else piece
        start += len(piece)
        piece = rest + (unescape_base64(piece) if is_json else piece)
        whole = len(piece) // 4 * 4
        _decode_piece(piece[:whole], decoded)
        rest = piece[whole:]
    if rest:
        raise ValueError("the length is no multiple of four")
    return decoded.getvalue()


def unescape_base64(piece: bytes) -> bytes:
    """Replace the escapes of a JSON string that base64 and data URLs have; other escapes stay, and are no base64."""
    if b"\\" in piece and b"\\\\" not in piece:
        for escape, char in _ESCAPES:
            piece = piece.replace(escape, char)
    return piece


def _decode_piece(piece: bytes, decoded: io.BytesIO) -> None:
    if piece and decoded.tell() % 3:
        raise ValueError("there is padding before the end")
    try:
        decoded.write(binascii.a2b_base64(piece, strict_mode=True))
    except binascii.Error as fault:
        raise ValueError(str(fault)) from None
