"""Command-line options of programs that measure one bundle: the bundle, steps, threads and the result file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from alterbute.bundle import default_bundle_path, open_bundle

from benchmarks.common.results_file import update_results


def make_bundle_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the shared options; each program adds options of its own."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=None, help="bundle folder; default: the demo bundle")
    parser.add_argument("--name", default=None, help="name of the entry in the result file; default: the bundle's name")
    parser.add_argument("--steps", type=int, default=None, help="denoising steps of an edit; default: the bundle's")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads; default: the backend's")
    parser.add_argument("--out", type=Path, default=None, help="result file (JSON); default: print only")
    return parser


def bundle_folder(options: argparse.Namespace) -> Path:
    """Folder of the bundle that `--bundle` names, or of the demo bundle."""
    folder: Path = options.bundle or default_bundle_path()
    return folder


def save_figures(options: argparse.Namespace, figures: dict[str, Any]) -> None:
    """Print the figures, and store them as the bundle's entry of the file `--out`."""
    update_results(options.out, options.name or open_bundle(bundle_folder(options)).manifest.name, figures)
