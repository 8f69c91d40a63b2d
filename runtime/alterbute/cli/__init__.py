"""The `alterbute` command: one file per verb, errors in one line, exit code 2 for an error that the user can correct."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The words after `alterbute`; None takes them from the command line.

    Returns:
        The exit code, see `run_command`.
    """
    from alterbute.cli.commands import build_app

    return run_command(build_app, "alterbute", arguments)


def run_command(build_app: Callable[[], typer.Typer], name: str, arguments: Sequence[str] | None) -> int:
    """Run a command line application with this project's handling of errors; `alterbute-export` uses it, too.

    Args:
        build_app: Makes the typer application.
        name: The command's name in messages.
        arguments: The words after the command's name; None takes them from the command line.

    Returns:
        The exit code: 0; 2 for an error that the user can correct, as one line on stderr states; 130 for Ctrl-C.
    """
    import typer

    from alterbute.errors import AlterbuteError

    if logging.lastResort is not None:  # what a record without a handler goes to: stderr, from WARNING on
        logging.lastResort.setFormatter(_LineFormatter())
    try:
        code = build_app()(args=arguments, prog_name=name, standalone_mode=False)
    except AlterbuteError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 2
    except typer.TyperException as fault:
        message = " ".join(fault.format_message().split()).rstrip(".")
        print(f"error: {message}; expected what `--help` lists; run the command with --help", file=sys.stderr)
        return 2
    except (typer.Abort, KeyboardInterrupt):
        return 130
    return code if isinstance(code, int) else 0


class _LineFormatter(logging.Formatter):
    """A log record as a line like the command's own: `warning: ...`."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{record.levelname.lower()}: {record.getMessage()}"
