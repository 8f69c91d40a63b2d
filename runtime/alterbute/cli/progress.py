"""A progress bar on a terminal; none where stderr is a file or a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alterbute.request import Progress, ProgressCallback


@contextmanager
def progress_bar(*, is_enabled: bool = True) -> Iterator[ProgressCallback | None]:
    """Yield a callback that advances a bar on stderr, or None where stderr is no terminal or `is_enabled` is False."""
    if not (is_enabled and sys.stderr.isatty()):
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        tasks = {}

        def advance(progress: Progress) -> None:
            if progress.image not in tasks:
                tasks[progress.image] = bar.add_task(f"image {progress.image + 1}", total=progress.steps)
            bar.update(tasks[progress.image], completed=progress.step)

        yield advance
