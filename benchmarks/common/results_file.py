"""Result files: figures, how they were asked for, and the machine; one writer for all programs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

RESULTS: Final = Path(__file__).parents[1] / "results"


def write_results(out: Path | None, figures: dict[str, Any]) -> None:
    """Print the figures, and keep them if a path is given."""
    text = json.dumps(figures, indent=1) + "\n"
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def update_results(out: Path | None, name: str, figures: dict[str, Any]) -> None:
    """Replace one entry of a result file that holds one entry per bundle; the other entries stay.

    Args:
        out: The file; None only prints.
        name: Name of the entry.
        figures: The figures, as JSON values.
    """
    kept = json.loads(out.read_text(encoding="utf-8")) if out is not None and out.exists() else {}
    write_results(out, {**kept, name: figures})
