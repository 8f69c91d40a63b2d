"""`alterbute config`: every setting of the server, and where its value comes from."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated

import typer

from alterbute.cli.echo import echo
from alterbute.cli.serve import add_setting_flags, read_settings
from alterbute.serve.settings import Value


def config(
    *, bundle: str | None = None, config: Path | None = None, effective: bool | None = None, **flags: Value
) -> None:
    """Print the server's effective settings as TOML; with --effective, also where each value comes from."""
    merged = read_settings(bundle, config, flags)
    for line in merged.lines():
        echo(line if effective else line.rsplit("  # ", 1)[0])


_EFFECTIVE = Annotated[
    bool | None, typer.Option("--effective", help="Also print where each value comes from.", show_default=False)
]
add_setting_flags(
    config, [inspect.Parameter("effective", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_EFFECTIVE)]
)
