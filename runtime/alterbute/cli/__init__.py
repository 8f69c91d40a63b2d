"""The `alterbute` command: one file per verb, errors in one line, exit code 2 for an error that the user can correct."""

from __future__ import annotations

import contextlib
import io
import logging
import os
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
        The exit code: 0; 2 for an error that the user can correct, as one line on stderr states; 130 for Ctrl-C; 1 where the
        reader of the output has gone.
    """
    import typer

    from alterbute.errors import AlterbuteError, printable

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may not have every letter of a file's name
            stream.reconfigure(errors="backslashreplace")
    if logging.lastResort is not None:  # what a record without a handler goes to: stderr, from WARNING on
        logging.lastResort.setFormatter(_LineFormatter())
    try:
        code = build_app()(args=arguments, prog_name=name, standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except AlterbuteError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 2
    except typer.TyperException as fault:
        message = printable(" ".join(fault.format_message().split()).rstrip("."))
        print(f"error: {message}; expected what `--help` lists; run the command with --help", file=sys.stderr)
        return 2
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        # The reader of the output, such as `head`, has gone. What is still buffered has nowhere to go, at exit either.
        _discard_output()
        return 1
    except OSError as fault:
        print(f"error: {_describe(fault)}", file=sys.stderr)
        _discard_output()
        return 2
    except MemoryError:
        print(
            "error: this machine has too little memory; expected room for the work; use smaller pictures",
            file=sys.stderr,
        )
        return 2
    return code if isinstance(code, int) else 0


def _describe(fault: OSError) -> str:
    """A failure of the system that no message of its own describes, as one line."""
    from alterbute.errors import printable

    where = f" on {str(fault.filename)!r}" if fault.filename is not None else ""
    reason = fault.strerror or str(fault) or type(fault).__name__
    return printable(
        f"the system refuses a read or write{where} ({reason}); expected a place that works; check path and disk"
    )


def _discard_output() -> None:
    """Send what is left of stdout to nowhere, so that the interpreter does not fail when it flushes it."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _LineFormatter(logging.Formatter):
    """A log record as a line like the command's own: `warning: ...`."""

    def format(self, record: logging.LogRecord) -> str:
        from alterbute.errors import printable

        return printable(f"{record.levelname.lower()}: {record.getMessage()}")
