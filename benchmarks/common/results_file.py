"""Result files (JSON): figures, the settings that they were measured with, and the machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

RESULTS: Final = Path(__file__).parents[1] / "results"


def write_results(out: Path | None, figures: dict[str, Any]) -> None:
    """Print the figures as JSON, and write them to a file if a path is given."""
    text = json.dumps(figures, indent=1) + "\n"
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def update_results(out: Path | None, name: str, figures: dict[str, Any]) -> None:
    """Replace one entry of a result file that has one entry per bundle or setting; keep the others.

    Args:
        out: The result file; None prints only.
        name: Name of the entry.
        figures: The figures, as JSON values.
    """
    entries = json.loads(out.read_text(encoding="utf-8")) if out is not None and out.exists() else {}
    write_results(out, {**entries, name: figures})
