"""The verbs put together. Every option also reads `ALTERBUTE_<VERB>_<OPTION>` from the environment."""

from __future__ import annotations

from typing import Annotated

import typer

from alterbute.cli.edit import edit
from alterbute.cli.inspect import inspect
from alterbute.cli.verify import verify

VERBS = (edit, inspect, verify)


def build_app() -> typer.Typer:
    """The command with its verbs."""
    app = typer.Typer(
        help="Edit an object's colour, material or texture in a photo; the background stays bit for bit.",
        context_settings={"auto_envvar_prefix": "ALTERBUTE", "help_option_names": ["-h", "--help"]},
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    for verb in VERBS:
        app.command()(verb)
    return app


def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def _print_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        typer.echo(f"alterbute {version('alterbute')}")
        raise typer.Exit
