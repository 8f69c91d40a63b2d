"""`alterbute serve` runs the server until a signal; `alterbute config` has the same options."""

from __future__ import annotations

import importlib.util
import inspect
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from alterbute.errors import EngineError
from alterbute.serve.settings import CONFIG_VARIABLE, EffectiveSettings, ServerSettings, Value, merge

# Lists are one text with commas.
_TYPES: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool, "tuple[str, ...]": str}


def serve(*, bundle: str | None = None, config: Path | None = None, **flags: Value) -> int:
    """Serve a bundle over HTTP: OpenAI's image edits, KServe v2, health and metrics. SIGTERM drains.

    Every option is also a variable (--max-queue is ALTERBUTE_SERVE_MAX_QUEUE) and a key of the TOML file (max_queue).
    """
    effective = read_settings(bundle, config, flags)
    for module in ("starlette", "uvicorn", "python_multipart", "prometheus_client"):
        if importlib.util.find_spec(module) is None:
            raise EngineError(
                f"{module} is not installed", "the server's libraries", "run `pip install 'alterbute[serve]'`"
            )
    from alterbute.serve.logs import configure_logs
    from alterbute.serve.process import run

    configure_logs(effective.settings.log_level)
    return run(effective.settings)


def read_settings(bundle: str | None, config: Path | None, flags: dict[str, Value]) -> EffectiveSettings:
    """Merge the server's settings from command line, environment and file.

    Args:
        bundle: The bundle folder given on the command line, if any.
        config: The TOML file given on the command line, if any.
        flags: Settings given as options, by name; None is "not given".
    """
    return merge(flags={"bundle": bundle, **flags}, environment=os.environ, file=config)


def add_setting_flags(
    verb: Callable[..., int | None], extra: list[inspect.Parameter] | None = None
) -> Callable[..., int | None]:
    """Give a verb one option per server setting, and return the verb.

    Args:
        verb: The function of the command; its signature is replaced.
        extra: Further parameters, with their `typer` annotations.
    """
    parameters = [
        _parameter(
            "bundle", Annotated[str | None, typer.Argument(help="Bundle folder; the demo bundle when left out.")]
        ),
        _parameter(
            "config",
            Annotated[
                Path | None, typer.Option("--config", "-c", help=f"TOML file of settings; or {CONFIG_VARIABLE}.")
            ],
        ),
        *(extra or []),
    ]
    for setting in fields(ServerSettings):
        if setting.name == "bundle":
            continue
        kind = _TYPES[str(setting.type).removesuffix(" | None")]
        flag = f"--{setting.name.replace('_', '-')}"
        default = "" if setting.default in (None, "", ()) else f" [{setting.default}]"
        help = f"{setting.metadata['help']}{default}"
        # Variables are read here rather than by typer, so that `config` can report a variable as such and not as a flag.
        names = f"{flag}/--no-{flag[2:]}" if kind is bool else flag
        option = typer.Option(names, help=help, allow_from_autoenv=False, show_default=False, metavar=None)
        parameters.append(_parameter(setting.name, Annotated[kind | None, option]))
    verb.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    verb.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return verb


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


add_setting_flags(serve)
