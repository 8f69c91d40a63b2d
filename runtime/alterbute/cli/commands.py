"""The application with all verbs. Every option also reads `ALTERBUTE_<VERB>_<OPTION>` from the environment."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from alterbute.cli.config import config
from alterbute.cli.doctor import doctor
from alterbute.cli.echo import echo
from alterbute.cli.editing.compare import compare
from alterbute.cli.editing.edit import edit
from alterbute.cli.editing.mask import mask
from alterbute.cli.inspect import inspect
from alterbute.cli.serve import serve
from alterbute.cli.verify import verify

VERBS: Final = (edit, mask, compare, serve, config, inspect, verify, doctor)


def build_app() -> typer.Typer:
    """Build the typer application."""
    app = typer.Typer(
        help="Edit an object's colour, material or texture in a photo; the background stays bit for bit.",
        context_settings={"help_option_names": ["-h", "--help"]},
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback(invoke_without_command=True)(_options)
    for verb in VERBS:
        # On the verbs only: a deployment that sets ALTERBUTE_VERSION must not get `--version`.
        app.command(context_settings={"auto_envvar_prefix": f"ALTERBUTE_{verb.__name__.upper()}"})(verb)
    return app


def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from alterbute.version import installed_version

        echo(f"alterbute {installed_version()}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
