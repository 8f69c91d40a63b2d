"""Output paths: an input is not overwritten by accident, and a default name does not replace an earlier result."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from alterbute.errors import InputError

_MAX_STEM_BYTES: Final = 200


def check_outputs(outputs: Sequence[Path], inputs: Sequence[Path | str | None], *, overwrite: bool) -> None:
    """Check output paths before any work is done for them.

    Args:
        outputs: Paths that will be written.
        inputs: Paths that are read; None stands for one that is not given.
        overwrite: Whether an input may be replaced.

    Raises:
        InputError: a path cannot be written, is given twice, or is an input.
    """
    from alterbute.images import check_output

    for index, output in enumerate(outputs):
        check_output(output)
        if any(_is_same(output, other) for other in outputs[:index]):
            raise InputError(
                f"{str(output)!r} would be written twice",
                "a path for each output",
                "choose another path",
                "output",
                "output_twice",
            )
        if not overwrite and any(path is not None and _is_same(output, Path(path)) for path in inputs):
            raise InputError(
                f"the output {str(output)!r} is one of the inputs",
                "another path, so that no original is lost",
                "choose another path with -o, or pass --overwrite",
                "output",
                "output_is_input",
            )


def free_path(path: Path, suffixes: Sequence[str] = ("",)) -> Path:
    """The path, or the first `NAME-2`, `NAME-3`... of which no file exists.

    Args:
        path: The wished path; its name may be cut.
        suffixes: Endings of the stem of all files that will be written beside it, which must not exist either.
    """
    number, candidate = 1, _shorten(path)
    while any(candidate.with_name(f"{candidate.stem}{suffix}{candidate.suffix}").exists() for suffix in suffixes):
        number += 1
        candidate = _shorten(path, f"-{number}")
    return candidate


def _shorten(path: Path, ending: str = "") -> Path:
    """The path with `ending` at its stem, which is cut to what every file system can hold with numbers and endings behind it."""
    stem = path.stem
    while len(os.fsencode(stem)) > _MAX_STEM_BYTES:
        stem = stem[:-1]
    return path.with_name(f"{stem}{ending}{path.suffix}")


def _is_same(one: Path, other: Path) -> bool:
    """Whether two paths are one file, by whatever links and spellings."""
    try:
        return one.samefile(other)
    except OSError:
        return one.absolute() == other.absolute()
    except ValueError:  # a NUL: the path is refused where it is opened
        return False
