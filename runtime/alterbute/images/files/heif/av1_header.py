"""The size in an AV1 sequence header, and whether a frame has another one (AV1 bitstream specification, 5.5 and 5.9.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_CHOSEN_BY_FRAME: Final = 2
_KEY, _SWITCH = 0, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """What a sequence header holds, as far as it is needed to find the size of a frame.

    Args:
        width: Largest number of columns of a frame.
        height: Largest number of rows.
        is_reduced: Whether it is the short header of a still picture, whose frame has that size.
        time_bits: Bits of the time at which each frame is shown; 0 where frames have none.
        id_bits: Bits of the number of each frame; 0 where frames have none.
        screen_tools: Whether tools for screen contents are used: 0, 1, or 2 where each frame states it.
        integer_motion: Whether motion is in whole pixels: the same.
    """

    width: int
    height: int
    is_reduced: bool
    time_bits: int = 0
    id_bits: int = 0
    screen_tools: int = _CHOSEN_BY_FRAME
    integer_motion: int = _CHOSEN_BY_FRAME


class _Bits:
    """The bits of a header, the highest of each byte first."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data), 8 * len(data)

    def take(self, count: int = 1) -> int:
        """The next bits as a number.

        Raises:
            OSError: the header ends before.
        """
        if count > self._left:
            raise OSError("image file is truncated: an AV1 header ends early")
        self._left -= count
        return self._value >> self._left & (1 << count) - 1

    def skip_variable(self) -> None:
        """Skip a number of variable length (uvlc)."""
        zeros = 0
        while not self.take():
            zeros += 1
        if zeros < 32:
            self.take(zeros)


def read_sequence(data: bytes) -> Sequence:
    """Read a sequence header.

    Raises:
        OSError: it ends early.
    """
    bits = _Bits(data)
    bits.take(4)  # profile, still picture
    is_reduced = bool(bits.take())
    time_bits = 0
    if is_reduced:
        bits.take(5)
    else:
        time_bits = _skip_operating_points(bits)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    width, height = bits.take(width_bits) + 1, bits.take(height_bits) + 1
    if is_reduced:
        return Sequence(width=width, height=height, is_reduced=True)
    id_bits = 0
    if bits.take():
        id_bits = bits.take(4) + 2
        id_bits += bits.take(3) + 1
    bits.take(3 + 4)  # block size and intra tools; compound and motion tools
    if bits.take():  # order of frames
        bits.take(2)
    screen_tools = _CHOSEN_BY_FRAME if bits.take() else bits.take()
    integer_motion = _CHOSEN_BY_FRAME
    if screen_tools:
        integer_motion = _CHOSEN_BY_FRAME if bits.take() else bits.take()
    return Sequence(
        width=width,
        height=height,
        is_reduced=False,
        time_bits=time_bits,
        id_bits=id_bits,
        screen_tools=screen_tools,
        integer_motion=integer_motion,
    )


def _skip_operating_points(bits: _Bits) -> int:
    """Skip the times and operating points; returns the bits of the time at which each frame is shown."""
    delay_bits = time_bits = 0
    if bits.take():
        bits.take(64)
        has_equal_times = bits.take()
        if has_equal_times:
            bits.skip_variable()
        if bits.take():
            delay_bits = bits.take(5) + 1
            bits.take(32 + 5)
            frame_bits = bits.take(5) + 1
            time_bits = 0 if has_equal_times else frame_bits
    has_display_delay = bits.take()
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take()
        if delay_bits and bits.take():
            bits.take(2 * delay_bits + 1)
        if has_display_delay and bits.take():
            bits.take(4)
    return time_bits


def changes_size(data: bytes, sequence: Sequence) -> bool:
    """Whether a frame has a size of its own instead of the sequence's.

    Args:
        data: Its header, at least the first bytes.
        sequence: The sequence header before it.

    Raises:
        OSError: it ends early.
    """
    if sequence.is_reduced:
        return False
    bits = _Bits(data)
    if bits.take():  # a frame that was decoded before is shown
        return False
    kind, is_shown = bits.take(2), bits.take()
    if is_shown:
        bits.take(sequence.time_bits)
    else:
        bits.take()
    if kind != _SWITCH and not (kind == _KEY and is_shown):
        bits.take()
    bits.take()  # updates of the probabilities
    screen_tools = bits.take() if sequence.screen_tools == _CHOSEN_BY_FRAME else sequence.screen_tools
    if screen_tools and sequence.integer_motion == _CHOSEN_BY_FRAME:
        bits.take()
    bits.take(sequence.id_bits)
    return kind == _SWITCH or bool(bits.take())
