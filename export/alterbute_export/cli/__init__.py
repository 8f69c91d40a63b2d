"""The `alterbute-export` command: progress and errors on stderr, exit code 2 for an error that the user can correct."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The words after `alterbute-export`; None takes them from the command line.

    Returns:
        The exit code: 0, or 2 for an error that the user can correct; see `alterbute.cli.run_command` for the others.
    """
    from alterbute.cli import run_command

    from alterbute_export.cli.commands import build_app

    return run_command(build_app, "alterbute-export", arguments)
