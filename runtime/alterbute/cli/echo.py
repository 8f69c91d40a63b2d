"""Output of the command: every line may hold names from a bundle or a file system, so controls in it are escaped."""

from __future__ import annotations

import typer

from alterbute.errors import printable


def echo(line: str, *, is_error: bool = False) -> None:
    """Print one line to stdout, or to stderr, with controls escaped.

    Args:
        line: The line.
        is_error: Print it to stderr.
    """
    typer.echo(printable(line), err=is_error)
