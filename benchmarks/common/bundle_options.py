"""Command-line options of programs about one bundle: the bundle, how it is run, and the result file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from alterbute.bundle import default_bundle_path, open_bundle

from benchmarks.common.results_file import update_results


def bundle_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the shared options; each program adds its own."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=None, help="a bundle folder; else the demo bundle")
    parser.add_argument("--name", default=None, help="the entry's name; else the bundle's")
    parser.add_argument("--steps", type=int, default=None, help="of an edit; else the bundle's default")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--out", type=Path, default=None)
    return parser


def chosen_bundle(options: argparse.Namespace) -> Path:
    """Folder of the chosen bundle."""
    folder: Path = options.bundle or default_bundle_path()
    return folder


def keep(options: argparse.Namespace, figures: dict[str, Any]) -> None:
    """Print the figures, and keep them as the bundle's entry in `--out`."""
    update_results(options.out, options.name or open_bundle(chosen_bundle(options)).manifest.name, figures)
