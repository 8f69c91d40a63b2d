"""The `alterbute` command: one file per verb, errors in one line, exit code 2 when the user can mend it."""

from __future__ import annotations

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
        The exit code, as of `run_command`.
    """
    from alterbute.cli.commands import build_app

    return run_command(build_app, "alterbute", arguments)


def run_command(build_app: Callable[[], typer.Typer], name: str, arguments: Sequence[str] | None) -> int:
    """Run a command line application as this project's commands behave; `alterbute-export` uses it, too.

    Returns:
        The exit code: 0, 2 for an error that its one line on stderr tells how to mend, 130 for Ctrl-C.
    """
    import typer

    from alterbute.errors import AlterbuteError

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
