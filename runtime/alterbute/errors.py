"""The errors of this package. Each message states what was seen, what was expected, and how to fix it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alterbute.result import EditResult


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
        line = f"{self.seen}; expected {self.expected}; {self.fix}"
        return "".join(char if char.isprintable() else " " for char in line)


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


class PartialEditError(EngineError):
    """Some images of a call failed while others were finished; the error holds the finished ones.

    Args:
        results: One entry per image, in the order of the call; None for an image that failed.
        faults: One entry per image; None for an image that was finished.
    """

    def __init__(self, results: Sequence[EditResult | None], faults: Sequence[EngineError | None]) -> None:
        failed = [fault for fault in faults if fault is not None]
        super().__init__(
            f"{len(failed)} of {len(faults)} images failed, the first one because {failed[0].seen}",
            failed[0].expected,
            f"keep the finished images; for the others, {failed[0].fix}",
        )
        self.results, self.faults = tuple(results), tuple(faults)


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
