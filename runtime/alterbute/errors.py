"""The errors of this package. Each message states what was seen, what was expected, and how to fix it."""

from __future__ import annotations

import re
from typing import Final

# Controls (C0, C1), marks that reorder or hide text (bidi, zero-width, soft hyphen, tags), half surrogates, noncharacters.
_CONTROLS: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\ufffe\uffff\U000e0000-\U000e007f]"
)

_SPACES: Final = "\t\n\v\f\r\x85\u2028\u2029"


def is_printable(text: str) -> bool:
    """Whether a text holds no character that a terminal would not show as itself."""
    return _CONTROLS.search(text) is None


def printable(text: str) -> str:
    """A text from outside as it may reach a terminal or log, in one line: controls become `\\x1b` or a space.

    Lone surrogates, which stand for bytes of file names that are not UTF-8, are escaped, too, so that any stream can encode it.
    """
    return _CONTROLS.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return " " if match.group() in _SPACES else ascii(match.group())[1:-1]


class AlterbuteError(Exception):
    """Base class of all errors that this package raises.

    Args:
        seen: What was seen, with figures (`the mask is 64x32, the photo 64x64`).
        expected: What was expected (`a mask of the photo's size`).
        fix: What the user can do (`resize the mask, or draw it on this photo`).
    """

    def __init__(self, seen: str, expected: str, fix: str) -> None:
        super().__init__(seen, expected, fix)
        self.seen, self.expected, self.fix = seen, expected, fix

    def __str__(self) -> str:
        """The message as one printable line; file names and prompts in it may hold line breaks or escapes."""
        return printable(f"{self.seen}; expected {self.expected}; {self.fix}")


class InputError(AlterbuteError):
    """An input is invalid: photo, mask, prompt, steps, seed, output path...

    Args:
        param: Name of the invalid argument in the public API (`mask`, `steps`, `output`).
        code: Stable identifier for programs (`mask_empty`, `steps_out_of_range`).
    """

    def __init__(self, seen: str, expected: str, fix: str, param: str = "", code: str = "") -> None:
        super().__init__(seen, expected, fix)
        self.param, self.code = param, code


class BundleError(AlterbuteError):
    """The bundle is missing, damaged, altered, or of a schema that this version does not read."""


class EngineError(AlterbuteError):
    """A backend is not installed, or cannot load or run an engine of the bundle."""


class EngineMismatchError(EngineError):
    """A prebuilt engine was built for another machine, library version or graph.

    The message names what the engine was built for, what is present, and the command that rebuilds it.
    """


class DeviceError(EngineError):
    """A device failed during an edit.

    Args:
        is_fatal: Whether the device's context is lost: every later call in this process fails, so the process must be restarted.
    """

    def __init__(self, seen: str, expected: str, fix: str, *, is_fatal: bool = False) -> None:
        super().__init__(seen, expected, fix)
        self.is_fatal = is_fatal


class Cancelled(AlterbuteError):
    """The caller's `cancel` returned True; nothing was written."""


class OverloadedError(AlterbuteError):
    """The server is at capacity, or is shutting down, and refuses the request for now.

    Args:
        retry_after_s: Seconds after which the client may try again.
        code: Stable identifier for programs (`queue_full`, `draining`, `deadline_unreachable`...).
    """

    def __init__(self, seen: str, expected: str, fix: str, *, retry_after_s: float, code: str) -> None:
        super().__init__(seen, expected, fix)
        self.retry_after_s, self.code = retry_after_s, code


class DeadlineExceeded(AlterbuteError):
    """The request's deadline has passed; nothing was returned."""
