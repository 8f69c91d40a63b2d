"""Output paths: an input is not overwritten by accident, and a default name does not replace an earlier result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from alterbute.errors import InputError


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
        path: The wished path.
        suffixes: Endings of the stem of all files that will be written beside it, which must not exist either.
    """
    number, candidate = 1, path
    while any(candidate.with_name(f"{candidate.stem}{suffix}{candidate.suffix}").exists() for suffix in suffixes):
        number += 1
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return candidate


def _is_same(one: Path, other: Path) -> bool:
    """Whether two paths are one file, by whatever links and spellings."""
    try:
        return one.samefile(other)
    except OSError:
        return one.absolute() == other.absolute()
